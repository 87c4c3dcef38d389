"""What `ldmlab sample` says of its images: what decided them all, and each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig

from ldmlab.apps.commands.sample_conditions import Conditions
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.runs.find import find_checkpoint
from ldmlab.apps.runs.restore import Restored
from ldmlab.core.records import Batch
from ldmlab.core.sample_log import Record
from ldmlab.data.images.label_maps import LabelMapFiles
from ldmlab.data.sampling.datasets import Cycle
from ldmlab.evaluation.card import described

ASKING = ("prompt", "prompts", "labels", "per_class", "masks")
"""Keys that ask for conditions; the validation data's are drawn where none is given."""

_OF_ALL = ("also", "negative_prompt", "negative_label")
_OTHERS = ("autoguidance", "image", "strength", "inpaint", "resamplings", "ema_std")


def settings_of(cfg: DictConfig) -> Record:
    """What decides all images, beside their conditions and the weights' step."""
    return {
        "run": str(find_checkpoint(cfg.run)),
        "seed": cfg.seed,
        "conditions": "validation" if all(cfg[key] is None for key in ASKING) else "asked",
        "sampler": described(build(cfg.sampler)),
        "guidance": described(build(cfg.guidance)),
        **{key: cfg[key] for key in (*_OF_ALL, *_OTHERS)},
    }


@dataclass(frozen=True)
class Records:
    """Makes the record of each image.

    Attributes:
        settings: What decides them all.
        restored: The model that draws them.
        conditions: What they are drawn under.
    """

    settings: Mapping[str, Any]
    restored: Restored
    conditions: Conditions

    def all(self) -> dict[int, Record]:
        """What is known of all images by their index; nothing if it is the validation data's."""
        if isinstance(self.conditions, Cycle):
            return {}
        indices = range(len(self.conditions))
        if isinstance(self.conditions, Batch):
            return self.of(self.conditions, indices)
        return self.of(Batch(index=torch.tensor(indices)), indices)

    def of(self, conditions: Batch, indices: Sequence[int]) -> dict[int, Record]:
        """What is known of images before they are drawn, by their index.

        Args:
            conditions: Their conditions.
            indices: Their places among all.
        """
        return {index: self._one(conditions, row, index) for row, index in enumerate(indices)}

    def _one(self, conditions: Batch, row: int, index: int) -> Record:
        settings = self.settings
        record: Record = {"seed": settings["seed"], "index": index}
        kind = self.restored.model.network.conditioner.input_key
        if kind == "caption" and conditions.caption is not None:
            record["prompt"] = conditions.caption[row]
        if kind == "label" and conditions.label is not None:
            record["label"] = label = int(conditions.label[row])
            if self.restored.classes:
                record["class"] = self.restored.classes[label]
        if isinstance(self.conditions, LabelMapFiles):
            record["mask"] = self.conditions.names[index]
            record["mask_sha256"] = self.conditions.digests[index]
        if isinstance(self.conditions, Cycle):
            record["validation"] = index % len(self.conditions.dataset)
        return record | {
            **{key: settings[key] for key in _OF_ALL if settings[key] is not None},
            "sampler": settings["sampler"],
            "guidance": settings["guidance"],
            "run": self.restored.folder.path.name,
            "step": self.restored.step,
        }


def texts_of(record: Record) -> dict[str, str]:
    """A record as the text chunks of a PNG."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in record.items()
    }
