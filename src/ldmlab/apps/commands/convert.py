"""`ldmlab convert`: published models in as runs, and runs out to other formats."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ldmlab.apps.runs.export_run import export_run
from ldmlab.apps.runs.import_run import write_run
from ldmlab.conditioning.vocabulary_files import read_vocabulary
from ldmlab.core.errors import UserError
from ldmlab.core.files import new_folder
from ldmlab.core.terminal import console, next_line
from ldmlab.interop.common.imported import Imported
from ldmlab.interop.common.read_foreign import read_table, read_tensors

_SOURCES = ("compvis", "diffusers", "run")


def run(cfg: DictConfig) -> None:
    """Convert what `compvis`, `diffusers` or `run` names, into the new folder `out`.

    Args:
        cfg: The verb's own keys.
    """
    source = _source(cfg)
    if cfg.out is None:
        raise UserError("out is mandatory: out=<a new folder>")
    out = Path(cfg.out).absolute()
    with console.status(f"{cfg[source]} to {out}"), new_folder(cfg.out) as folder:
        if source == "run":
            export_run(cfg.run, folder, cfg.to, cfg.trust)
        else:
            read = _import_compvis if source == "compvis" else _import_diffusers
            write_run(read(cfg), folder, out, Path(cfg[source]).name)
    console.print(f"written: {out}", markup=False)
    if source != "run":
        console.print(next_line("sample", f"run={out}"), markup=False)


def _import_compvis(cfg: DictConfig) -> Imported:
    from ldmlab.interop.compvis.import_model import import_compvis

    if cfg.config is None:
        raise UserError("compvis= needs config=<the YAML file published with the checkpoint>")
    table = read_table(cfg.config)
    words = None if cfg.vocabulary is None else read_vocabulary(cfg.vocabulary, "vocabulary")
    return import_compvis(table, read_tensors(cfg.compvis), words)


def _import_diffusers(cfg: DictConfig) -> Imported:
    from ldmlab.interop.diffusers.import_model import import_pipeline

    return import_pipeline(Path(cfg.diffusers))


def _source(cfg: DictConfig) -> str:
    given = [key for key in _SOURCES if cfg[key] is not None]
    if len(given) != 1:
        raise UserError("name one thing to convert: compvis=, diffusers= or run=")
    for key in ("config", "vocabulary"):
        if cfg[key] is not None and given != ["compvis"]:
            raise UserError(f"{key}= goes with compvis=, not with {given[0]}=")
    return given[0]
