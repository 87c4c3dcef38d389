"""What `ldmlab evaluate` measures of sets of images, and the networks and judges for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldmlab.apps.build.experiment import build_data
from ldmlab.apps.config.run_id import split_identity
from ldmlab.core.device import device_to_show_on
from ldmlab.core.errors import UserError
from ldmlab.core.files import make_folder, write_json
from ldmlab.core.processes import is_main_process
from ldmlab.core.terminal import console, progress
from ldmlab.data.sampling.datasets import BatchDataset
from ldmlab.evaluation.features.inception import inception
from ldmlab.evaluation.features.network import FeatureNetwork
from ldmlab.evaluation.features.transformers import clip, dinov2
from ldmlab.evaluation.images.dataset import DatasetImages, digest_of
from ldmlab.evaluation.images.folder import FolderImages
from ldmlab.evaluation.images.image_set import ImageSet
from ldmlab.evaluation.images.npz import NpzImages
from ldmlab.evaluation.judges.network import Judge, load_judge, write_judge
from ldmlab.evaluation.judges.training import JudgeTrainer
from ldmlab.evaluation.measurement import Judged, Measurement
from ldmlab.evaluation.names import BITS_PER_DIM, OF_PAIRS, OF_RECONSTRUCTIONS, OWN
from ldmlab.evaluation.protocol import OnProgress
from ldmlab.evaluation.statistics import wait_for
from ldmlab.training.latents import list_hash

SPLITS = ("train", "validation")
_GOOD_JUDGE = 0.9


def run_on_sets(cfg: DictConfig) -> None:
    """Judge anyone's images, or train a judge, without a run.

    Raises:
        UserError: What a metric needs is not there.
    """
    wanted = list(cfg.metrics or ())
    data = Data(cfg)
    if cfg.train_judge:
        train_judge(cfg, data, Path(cfg.paths.runs) / "judges")
        if cfg.samples is None:
            if wanted:
                raise UserError(f"metrics=[{','.join(wanted)}] need samples=<folder or npz>")
            return
    if not wanted:
        raise UserError("metrics= names nothing to measure, such as metrics=[fid,kid]")
    of_runs = [m for m in wanted if m in (OWN, BITS_PER_DIM, *OF_RECONSTRUCTIONS)]
    if of_runs:
        raise UserError(f"metrics=[{','.join(of_runs)}] are of a run: name it with run=R")
    samples = open_images(cfg.samples, "samples")
    paired = any(name in OF_PAIRS for name in wanted)
    reference = None if cfg.reference is None else reference_images(cfg, data)
    judged = Judged(samples, reference, samples if paired else None, reference if paired else None)
    metrics = measure(cfg, judged, wanted, data, Path(cfg.paths.runs) / "judges")
    card = {
        "metrics": metrics,
        "samples": {"name": samples.name, "count": len(samples), "sha": samples.fingerprint()},
    }
    name = digest_of({"samples": samples.fingerprint(), "reference": str(cfg.reference)})
    folder = Path(cfg.out or Path(cfg.paths.runs) / "evaluations" / name)
    if is_main_process():
        make_folder(folder, lambda reason: f"out={folder} cannot be created ({reason})")
        write_json(folder / "card.json", card)
        print_metrics(metrics)
        print(folder / "card.json")


class Data:
    """The splits of the configuration's data set, read when they are first asked for.

    Args:
        cfg: The configuration.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self._cfg = cfg
        self._splits: dict[str, BatchDataset] = {}

    def dataset(self, split: str) -> BatchDataset:
        """The data set of a split."""
        if not self._splits:
            train, validation, _ = build_data(self._cfg)
            self._splits = {"train": train, "validation": validation}
        return self._splits[split]

    def images(self, split: str) -> DatasetImages:
        """A split as a set of images, each in its plain view."""
        dataset = self.dataset(split)
        facts = {**split_identity(self._cfg, split), "files": list_hash(dataset)}
        plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
        return DatasetImages(dataset, f"split {split}", plain)


def open_images(path: str, key: str) -> ImageSet:
    """A folder or an npz file of images.

    Raises:
        UserError: It is neither.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        return FolderImages(place, key)
    if place.is_file() and place.suffix == ".npz":
        return NpzImages(place, key)
    found = "is no folder and no npz file" if place.exists() else "does not exist"
    raise UserError(f"{key}={path} {found}: name a folder of images, or an npz with arr_0")


def reference_images(cfg: DictConfig, data: Data) -> ImageSet:
    """What `reference` names."""
    if cfg.reference in SPLITS:
        return data.images(cfg.reference)
    return open_images(cfg.reference, "reference")


def measure(
    cfg: DictConfig, judged: Judged, wanted: Sequence[str], data: Data, judges: Path
) -> dict[str, Any]:
    """Measure sets with the networks that the configuration names."""
    makers: dict[str, Callable[[], FeatureNetwork]] = {
        "inception": partial(inception, cfg.networks.inception),
        "dinov2": partial(dinov2, cfg.networks.dinov2),
        "clip": partial(clip, cfg.networks.clip),
        "judge": partial(_judge, cfg, data, judges),
    }
    made: dict[str, FeatureNetwork] = {}

    def network(name: str) -> FeatureNetwork:
        if name not in made:
            made[name] = makers[name]()
        return made[name]

    with progress_bars() as on_progress:
        return Measurement(
            network,
            Path(cfg.cache),
            cfg.batch_size,
            cfg.reference_rows,
            cfg.folds,
            device_to_show_on(cfg.trainer.accelerator, cfg.trainer.devices),
            on_progress,
        )(judged, wanted)


def train_judge(cfg: DictConfig, data: Data, judges: Path) -> Judge:
    """Train the judge of a data set, unless it is there, and say how good it is."""
    trainer = _trainer(cfg)
    train, held_out = (data.images(split) for split in SPLITS)
    path = judges / f"{trainer.identity(train, held_out)}.safetensors"
    if not path.is_file() and is_main_process():
        make_folder(judges, lambda reason: f"{judges} cannot be created ({reason})")
        device = device_to_show_on(cfg.trainer.accelerator, cfg.trainer.devices)
        with progress_bars() as on_progress:
            body, facts = trainer(train, held_out, device, on_progress("judge"))
        write_judge(path, body, facts)
    wait_for(path.is_file, judges)
    judge = load_judge(path)
    if is_main_process():
        _tell(path, judge)
    return judge


def _tell(path: Path, judge: Judge) -> None:
    """Where a judge is and how good."""
    facts = judge.facts
    print(f"judge {path}")
    print(f"sha256 {judge.fingerprint}")
    print(f"learned {facts.task}: {len(facts.classes)} answers, {facts.trained_on} images")
    print(f"held_out_accuracy {facts.held_out_accuracy:.4f} on {facts.held_out} images")
    if facts.held_out_accuracy < _GOOD_JUDGE:
        console.print(
            f"[yellow]warning:[/] below {_GOOD_JUDGE}: {facts.trained_on} images over "
            f"{len(facts.classes)} answers in {facts.steps} steps teach no more; class accuracy "
            "cannot pass this, and judge.max_steps or more images may raise it"
        )


def print_metrics(metrics: dict[str, Any]) -> None:
    """One line a metric: value, interval, floor."""
    for name, metric in metrics.items():
        line = f"{name} {metric['value']:.4f}"
        if metric.get("interval"):
            line += " [{:.4f}, {:.4f}]".format(*metric["interval"])
        if metric.get("floor") is not None:
            line += f" floor {metric['floor']:.4f}"
        print(line)


def _trainer(cfg: DictConfig) -> JudgeTrainer:
    return JudgeTrainer(**cfg.judge)


def _judge(cfg: DictConfig, data: Data, judges: Path) -> Judge:
    """The judge that is named, or that was trained on this data."""
    mend = (
        "train it with train_judge=true (and data=<name>, without a run), or name one with "
        "networks.judge=<file>"
    )
    if cfg.networks.judge is None:
        raise UserError(f"there is no judge, and no data=<name> that one was trained on: {mend}")
    if cfg.networks.judge != "auto":
        return load_judge(Path(cfg.networks.judge).expanduser())
    path = judges / f"{_trainer(cfg).identity(*map(data.images, SPLITS))}.safetensors"
    if not path.is_file():
        raise UserError(f"this data has no judge yet ({path}): {mend}")
    return load_judge(path)


@contextmanager
def progress_bars() -> Iterator[Callable[[str], OnProgress]]:
    """Progress bars by name, shown by one process."""
    with progress(hidden=not is_main_process()) as bars:

        def on_progress(name: str) -> OnProgress:
            task = bars.add_task(name, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield on_progress
