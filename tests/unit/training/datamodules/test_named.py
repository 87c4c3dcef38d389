"""The named LightningDataModules give what conf/data describes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import ldmlab
from ldmlab.apps.build.experiment import build_data
from ldmlab.apps.config.compose import compose
from ldmlab.core.records import Batch
from ldmlab.data.sampling.step_batches import SeededIndex
from ldmlab.data.specimens.make import FORMS, OVERRIDES, make
from ldmlab.training.datamodules.named import NamedDataModule

MODULES: dict[str, Callable[..., NamedDataModule]] = {
    "celebahq": ldmlab.CelebAHQDataModule,
    "imagenet": ldmlab.ImageNetDataModule,
    "landscapes": ldmlab.LandscapesDataModule,
    "image_folder": ldmlab.ImageFolderDataModule,
    "laion": ldmlab.LaionDataModule,
    "vistas": ldmlab.VistasDataModule,
    "digits": ldmlab.DigitsDataModule,
}
# The usual form of each, and those that need arguments of their own.
CASES = [
    (name, form)
    for name, forms in FORMS.items()
    for k, form in enumerate(forms)
    if k == 0 or ((name, form) in OVERRIDES and name != "imagenet")
]
# What conf/data says in other words, or a module works out from the data.
ELSEWHERE = {"channels", "train", "validation", "latents", "num_classes", "num_mask_labels"}


def defaults(module: Callable[..., NamedDataModule]) -> dict[str, Any]:
    """Every argument that has a default, with it."""
    own, shared = inspect.signature(module), inspect.signature(NamedDataModule)
    found = {p.name: p.default for p in [*shared.parameters.values(), *own.parameters.values()]}
    return {name: value for name, value in found.items() if value is not inspect.Parameter.empty}


def same(one: Batch, other: Batch) -> None:
    for field in ("index", "image", "label", "mask"):
        a, b = getattr(one, field), getattr(other, field)
        assert (a is None) == (b is None), field
        assert a is None or torch.equal(a, b), field
    assert one.caption == other.caption


@pytest.mark.parametrize("name", MODULES)
def test_defaults_are_those_of_the_configuration(name: str) -> None:
    data = compose([f"data={name}", "paths.runs=runs"]).data
    keys = {key for key in data if key not in ELSEWHERE}
    told = {key: OmegaConf.to_object(data)[key] for key in keys - {"root", "cache"}}
    if name in ("vistas", "digits"):
        small = MODULES[name](limit=8, **({"num_samples": 8} if name == "vistas" else {}))
        assert (small.num_workers, len(small.validation)) == (
            0,
            {"vistas": 512, "digits": 200}[name],
        )
        assert type(small.train).__name__ == "InMemory"
        for key in ("num_workers", "in_memory", "validation_limit"):
            told.pop(key)
    assert told == {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in defaults(MODULES[name]).items()
        if key in told
    }


@pytest.mark.parametrize(("name", "form"), CASES)
def test_image_datamodules_equal_the_configured_data(name: str, form: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    make(name, root, form, 6, 32)
    words = [
        "data.image_size=16", "data.flip=true", "data.num_workers=2", "data.limit=5",
        *(["data.resized=24"] if name == "landscapes" else []),
        *OVERRIDES.get((name, form), "").split(),
    ]  # fmt: skip
    cfg = compose([f"data={name}", f"data.root={root}", f"paths.runs={tmp_path}", *words])
    given = {
        key.removeprefix("data."): value for key, _, value in (w.partition("=") for w in words)
    }
    module = MODULES[name](
        root=str(root), **{key: OmegaConf.select(cfg.data, key) for key in given}
    )
    train, validation, spec = build_data(cfg)
    assert module.spec == spec
    assert (len(module.train), len(module.validation)) == (len(train), len(validation))
    visits = [*range(len(train)), *(SeededIndex(k, 5 * k + 1) for k in range(len(train)))]
    same(module.train.__getitems__(visits), train.__getitems__(visits))
    looks = [*range(len(validation)), SeededIndex(0, 3)]
    same(module.validation.__getitems__(looks), validation.__getitems__(looks))


@pytest.mark.parametrize("name", ["vistas", "digits"])
def test_toy_datamodules_equal_the_configured_data(name: str) -> None:
    module = MODULES[name](image_size=16, limit=20, validation_limit=7)
    cfg = compose(
        [f"data={name}", "data.image_size=16", "data.limit=20", "data.validation_limit=7"]
    )
    train, validation, spec = build_data(cfg)
    assert module.spec == spec
    for mine, theirs in ((module.train, train), (module.validation, validation)):
        rows = list(range(len(theirs)))
        assert len(mine) == len(theirs)
        same(mine.__getitems__(rows), theirs.__getitems__(rows))
