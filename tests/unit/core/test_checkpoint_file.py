"""Reading of checkpoint files, and what is said of those that do not fit."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from ldmlab.core.checkpoint_file import (
    load_weights,
    read_checkpoint,
    told_if_misfit,
    write_checkpoint,
)
from ldmlab.core.errors import UserError


def test_checkpoint_file_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    written = {"weights": {"a": torch.arange(5.0)}, "step": 3, "names": ["x", None]}
    write_checkpoint(written, path)
    read = read_checkpoint(path)
    assert torch.equal(read.pop("weights")["a"], torch.arange(5.0))
    assert read == {"step": 3, "names": ["x", None]}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_damaged_checkpoint_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint({"a": torch.ones(1000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut short"):
        read_checkpoint(path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"weight": torch.zeros(1, 2)}, 'Missing key(s) in state_dict: "bias".'),
        (
            {"weight": torch.zeros(1, 2), "bias": torch.zeros(1), "extra": torch.zeros(1)},
            'Unexpected key(s) in state_dict: "extra".',
        ),
        ({"weight": torch.zeros(1, 3), "bias": torch.zeros(1)}, "size mismatch for weight: "),
    ],
)
def test_first_weight_difference_is_named_in_one_line(
    weights: dict[str, torch.Tensor], told: str
) -> None:
    with pytest.raises(UserError) as caught:
        load_weights(nn.Linear(2, 1), weights, "x=y does not fit")
    assert str(caught.value).startswith(f"x=y does not fit: {told}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("message", ["out of memory", "loading state_dict", "a:\n\tb", ""])
def test_other_errors_are_not_taken_for_a_misfit(message: str) -> None:
    with pytest.raises(RuntimeError) as caught, told_if_misfit("x=y does not fit"):
        raise RuntimeError(message)
    assert str(caught.value) == message


def test_checkpoint_of_odd_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save([1], path)
    with pytest.raises(UserError, match="holds a list and no table"):
        read_checkpoint(path)
    for content in (b"R.", b"(((t", b"\x80\x02h\x05."):  # nothing to call, no end, nothing kept
        whole = zipfile.ZipFile(path, "w")
        with whole:
            for name, data in {
                "data.pkl": content,
                "version": b"3",
                "byteorder": b"little",
            }.items():
                whole.writestr(f"a/{name}", data)
        with pytest.raises(UserError, match=r"use another|was not loaded"):
            read_checkpoint(path)


def test_checkpoint_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"model": nn.Linear(1, 1)}, path)
    with pytest.raises(UserError, match="only tensors and plain values"):
        read_checkpoint(path)
    with pytest.raises(UserError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "b.ckpt")


def test_first_differences_are_told_with_names_and_shapes() -> None:
    weights = {f"{k}.weight": torch.zeros(2, 2) for k in range(4)} | {"extra": torch.zeros(1)}
    model = nn.Sequential(*(nn.Linear(2, 2 + (k == 3)) for k in range(4)))
    with pytest.raises(UserError) as caught:
        load_weights(model, weights, "x=y does not fit")
    assert str(caught.value) == (
        'x=y does not fit: Missing key(s) in state_dict: "0.bias", "1.bias", "2.bias" and 1 more.; '
        'Unexpected key(s) in state_dict: "extra".; size mismatch for 3.weight: copying a param '
        "with shape torch.Size([2, 2]) from checkpoint, the shape in current model is "
        "torch.Size([3, 2])."
    )
    with pytest.raises(UserError, match=r"for 0.*; size mismatch for 2.* and 1 more$"):
        load_weights(
            nn.Sequential(*(nn.Linear(2, 1, bias=False) for _ in range(4))),
            {f"{k}.weight": torch.zeros(1, 3) for k in range(4)},
            "x=y",
        )
