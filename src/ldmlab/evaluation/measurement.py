"""Measures what was asked of sets of images: each set behind each network once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ldmlab.core.errors import UserError
from ldmlab.evaluation.features.network import FeatureNetwork
from ldmlab.evaluation.images.image_set import ImageSet
from ldmlab.evaluation.judges.class_accuracy import class_accuracy
from ldmlab.evaluation.judges.network import Judge
from ldmlab.evaluation.names import CLASS_ACCURACY, OF_PAIRS, OF_RECONSTRUCTIONS, OF_SETS
from ldmlab.evaluation.pair_metrics import compare_pairs
from ldmlab.evaluation.protocol import Metric, OnProgress
from ldmlab.evaluation.set_metrics import SET_METRICS, compare
from ldmlab.evaluation.statistics import Statistics, statistics


@dataclass(frozen=True)
class Judged:
    """The sets that a measurement may need; None for what there is not.

    Attributes:
        samples: What is judged.
        reference: What it is held against.
        mirrored: Reconstructions.
        originals: Of what they are.
        drawn: How the samples were drawn, for the card.
    """

    samples: ImageSet | None = None
    reference: ImageSet | None = None
    mirrored: ImageSet | None = None
    originals: ImageSet | None = None
    drawn: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """How sets are measured.

    Attributes:
        network: Makes a network by its name, at its first use.
        cache: Folder of what was measured before.
        batch_size: Images at once.
        reference_rows: Rows of the reference that are kept.
        folds: Of the intervals.
        device: Where networks compute.
        on_progress: Makes a counter for a name.
    """

    network: Callable[[str], FeatureNetwork]
    cache: Path
    batch_size: int
    reference_rows: int
    folds: int
    device: torch.device
    on_progress: Callable[[str], OnProgress]

    def __call__(self, judged: Judged, wanted: Sequence[str]) -> dict[str, Metric]:
        """Metrics by name, each with all that it rests on.

        Args:
            judged: The sets.
            wanted: Metrics by name, in the order of the card.

        Raises:
            UserError: A set or a network that a metric needs is not there.
        """
        metrics: dict[str, Metric] = {}
        sets = [name for name in wanted if name in OF_SETS]
        if sets or CLASS_ACCURACY in wanted:
            asked = [*sets, *(name for name in wanted if name == CLASS_ACCURACY)]
            images = _needed(judged.samples, asked, "samples: samples=<folder or npz>, or run=R")
            found = self._compared(asked, images, judged.reference)
            metrics |= {name: entry | judged.drawn for name, entry in found.items()}
        pairs = [name for name in wanted if name in OF_PAIRS]
        mirrored = [name for name in wanted if name in OF_RECONSTRUCTIONS]
        if pairs or mirrored:
            asked = [*pairs, *mirrored]
            ours = _needed(judged.mirrored, asked, "reconstructions: run=R, or samples=")
            originals = _needed(judged.originals, asked, "originals: reference=<folder or npz>")
            facts = {"images": ours.name, "reference": originals.name,
                     "reference_sha": originals.fingerprint()}  # fmt: skip
            if pairs:
                counter = self.on_progress("pairs")
                found = compare_pairs(pairs, ours, originals, counter, self.batch_size)
                metrics |= {name: entry | facts for name, entry in found.items()}
            if mirrored:
                base = [name.removeprefix("r") for name in mirrored]
                found = self._compared(base, ours, originals)
                metrics |= {f"r{name}": entry for name, entry in found.items()}
        return metrics

    def _compared(
        self, wanted: Sequence[str], images: ImageSet, reference: ImageSet | None
    ) -> dict[str, Metric]:
        """Metrics of sets, which share the pass through each set."""
        sets = [name for name in wanted if name != CLASS_ACCURACY]
        held = [name for name in sets if SET_METRICS[name].needs_reference]
        if held:
            _needed(reference, held, "a reference: reference=<folder or npz>, or data=<name>")
        names = [SET_METRICS[name].network for name in sets]
        names += ["judge"] if CLASS_ACCURACY in wanted else []
        networks = {name: self.network(name).to(self.device) for name in dict.fromkeys(names)}
        needed = {SET_METRICS[name].network for name in held}
        real: dict[str, Statistics] = {}
        if reference is not None and needed:
            chosen = [networks[name] for name in networks if name in needed]
            real = self._statistics(reference, chosen, "reference", self.reference_rows)
        fake = self._statistics(images, list(networks.values()), "samples", None)
        metrics: dict[str, Metric] = {}
        for name in sets:
            network = networks[SET_METRICS[name].network]
            known = reference if SET_METRICS[name].needs_reference else None
            found = compare(name, real.get(network.name), fake[network.name], self.folds)
            facts = _facts(network, images, known)
            metrics |= {key: entry | facts for key, entry in found.items()}
        if CLASS_ACCURACY in wanted:
            judge = networks["judge"]
            assert isinstance(judge, Judge)
            entry = class_accuracy(judge, images, fake["judge"])
            metrics[CLASS_ACCURACY] = entry | _facts(judge, images, None)
        return metrics

    def _statistics(
        self, images: ImageSet, networks: list[FeatureNetwork], what: str, keep: int | None
    ) -> dict[str, Statistics]:
        rank, world = (int(os.environ.get(n, k)) for k, n in enumerate(("RANK", "WORLD_SIZE")))
        return statistics(
            images,
            networks,
            self.cache,
            keep=keep,
            batch_size=self.batch_size,
            rank=rank,
            world=world,
            on_progress=self.on_progress(what),
        )


def _needed(images: ImageSet | None, metrics: Sequence[str], what: str) -> ImageSet:
    if images is None:
        raise UserError(f"metrics=[{','.join(metrics)}] need {what}")
    return images


def _facts(network: FeatureNetwork, images: ImageSet, reference: ImageSet | None) -> Metric:
    """What a number rests on, beside its own counts."""
    facts = {
        "images": images.name,
        "images_sha": images.fingerprint(),
        "network": network.name,
        "network_sha256": network.fingerprint,
        "preprocessing": network.preprocessing,
    }
    if reference is not None:
        facts |= {"reference": reference.name, "reference_sha": reference.fingerprint()}
    if isinstance(network, Judge):
        facts["judge"] = (
            f"learned {network.facts.task} of {network.facts.trained_on} images; "
            f"{network.facts.held_out_accuracy:.3f} right on {network.facts.held_out} others"
        )
    return facts
