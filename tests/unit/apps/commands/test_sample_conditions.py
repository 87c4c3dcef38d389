"""What `ldmlab sample` is asked for, as conditions and as records of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from ldmlab.apps.commands.sample_conditions import conditions_asked
from ldmlab.apps.commands.sample_records import ASKING, Records
from ldmlab.apps.runs.restore import Restored
from ldmlab.conditioning.classes import ClassConditioner
from ldmlab.conditioning.masks import MaskConditioner
from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch, DataSpec
from ldmlab.data.images.label_maps import LabelMapFiles

NAMES = ("cat", "dog", "owl")


def asked(**keys: Any) -> DictConfig:
    return OmegaConf.create(dict.fromkeys(ASKING) | {"num_samples": 2, "data": {}} | keys)


def restored(takes: str) -> Restored:
    conditioner = {
        "label": ClassConditioner(3, 2),
        "mask": MaskConditioner(2, 1),
        "caption": SimpleNamespace(input_key="caption"),
    }[takes]
    model = SimpleNamespace(network=SimpleNamespace(conditioner=conditioner))
    spec, folder = DataSpec(4, 3, 3, 2), SimpleNamespace(path=Path("runs/a"))
    facts = {"model": model, "spec": spec, "classes": NAMES, "folder": folder, "step": 7}
    return cast("Restored", SimpleNamespace(**facts))


@pytest.mark.parametrize(
    ("keys", "labels"),
    [
        ({"labels": 1}, [1, 1]),
        ({"labels": "owl"}, [2, 2]),
        ({"labels": "owl,0-1"}, [2, 0, 1]),
        ({"labels": [2, "cat"]}, [2, 0]),
        ({"labels": "owl", "per_class": 1}, [2]),
        ({"labels": "owl,cat", "per_class": 2}, [2, 2, 0, 0]),
        ({"per_class": 2}, [0, 0, 1, 1, 2, 2]),
    ],
)
def test_each_class_is_drawn_as_often_as_asked(keys: dict[str, Any], labels: list[int]) -> None:
    found = conditions_asked(asked(**keys), restored("label"))
    assert isinstance(found, Batch) and found.label is not None
    assert found.label.tolist() == labels
    settings = dict.fromkeys(("also", "negative_prompt", "negative_label", "sampler", "guidance"))
    records = Records(settings | {"seed": 5}, restored("label"), found).all()
    assert [records[k]["class"] for k in range(len(labels))] == [NAMES[k] for k in labels]
    assert [records[k]["seed"] for k in records] == [5] * len(labels)


def test_label_maps_are_read_as_the_training_data_was(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 2).save(tmp_path / "a.png")
    data = {"first_label": 1, "unlabelled": 0}
    found = conditions_asked(asked(masks=str(tmp_path), data=data), restored("mask"))
    assert isinstance(found, LabelMapFiles) and len(found) == 2  # one map, num_samples times
    mask = found[[0]].mask
    assert mask is not None and mask.unique().tolist() == [1]
    with pytest.raises(UserError, match="has the label 2, out of range 0 to 1"):
        conditions_asked(asked(masks=str(tmp_path)), restored("mask"))


@pytest.mark.parametrize(
    ("takes", "keys", "said"),
    [
        ("mask", {"labels": "cat"}, "labels= needs a model conditioned on classes"),
        ("caption", {"per_class": 2}, "per_class= needs a model conditioned on classes"),
        ("label", {"masks": "a.png"}, "masks= needs a model conditioned on label maps"),
        ("label", {"labels": "dgo"}, "labels: .* did you mean dog"),
        ("caption", {"prompt": "a", "prompts": "b"}, "not both"),
    ],
)
def test_what_a_model_does_not_take_is_refused(takes: str, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        conditions_asked(asked(**keys), restored(takes))
