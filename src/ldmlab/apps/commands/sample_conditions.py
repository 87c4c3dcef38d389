"""The conditions that `ldmlab sample` was asked for, one an image."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ldmlab.apps.build.experiment import build_validation
from ldmlab.apps.config.overrides import key_of, typed_overrides
from ldmlab.apps.runs.restore import Restored
from ldmlab.conditioning.asked import asked_conditions, read_prompts
from ldmlab.conditioning.class_names import asked_classes
from ldmlab.core.errors import UserError
from ldmlab.core.records import UNLABELLED, Batch
from ldmlab.core.terminal import console
from ldmlab.data.images.frame import Frame
from ldmlab.data.images.label_maps import LabelMapFiles
from ldmlab.data.sampling.datasets import Cycle

Conditions = Batch | Cycle | LabelMapFiles


def conditions_asked(cfg: DictConfig, restored: Restored) -> Conditions:
    """The conditions that the configuration asks for, or else those of the validation data.

    Raises:
        UserError: The model takes none of this kind, or they are another number than
            `num_samples`, where the user has given it.
    """
    conditioner = restored.model.network.conditioner
    prompts = [] if cfg.prompt is None else [str(cfg.prompt)]
    if cfg.prompts is not None:
        if prompts:
            raise UserError("give prompt=<text> or prompts=<file>, not both")
        prompts = read_prompts(cfg.prompts)
    count = cfg.num_samples if cfg.per_class is None else 1
    asked = asked_conditions(conditioner, prompts, _labels(cfg, restored), count)
    found: Conditions | None = _masks(cfg, restored) or asked
    if found is None:
        found = Cycle(build_validation(cfg, restored.spec), count)
    typed = any(key_of(override) == "num_samples" for override in typed_overrides())
    if typed and len(found) != cfg.num_samples:
        raise UserError(
            f"num_samples={cfg.num_samples}, and {len(found)} images are asked for, one a "
            "condition: leave num_samples out"
        )
    return found


def _labels(cfg: DictConfig, restored: Restored) -> list[int]:
    classes, each = restored.spec.num_classes, cfg.per_class
    takes_classes = restored.model.network.conditioner.input_key == "label"
    if classes is None or not takes_classes:
        for key in ("labels", "per_class"):
            if cfg[key] is not None:
                raise UserError(
                    f"{key}= needs a model conditioned on classes, and this run has another"
                )
        return []
    labels = [] if each is None else list(range(classes))
    if cfg.labels is not None:
        asked = cfg.labels if isinstance(cfg.labels, int | str) else list(cfg.labels)
        labels = asked_classes("labels", asked, classes, restored.classes)
    return [label for label in labels for _ in range(each or 1)]


def _masks(cfg: DictConfig, restored: Restored) -> LabelMapFiles | None:
    """The label maps, brought into the model's frame as those of its training data were."""
    if cfg.masks is None:
        return None
    spec, data = restored.spec, cfg.data
    if restored.model.network.conditioner.input_key != "mask" or spec.num_mask_labels is None:
        raise UserError("masks= needs a model conditioned on label maps, and this run has another")
    frame = Frame(*spec.frame, min(spec.frame), data.get("resize_mode", "crop"))
    first, unlabelled = data.get("first_label", 0), data.get("unlabelled", UNLABELLED)
    found = LabelMapFiles(
        Path(cfg.masks), "masks", cfg.num_samples, spec.num_mask_labels, frame, first, unlabelled
    )
    for note in found.notes:
        console.print(f"masks: {note}", markup=False)
    return found
