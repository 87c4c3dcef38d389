"""Objects from configuration: the allowlist, nesting, and refusals that name the path."""

from __future__ import annotations

import functools
from types import ModuleType

import pytest
from omegaconf import OmegaConf

from ldmlab.apps.config import instantiate
from ldmlab.apps.config.instantiate import build
from ldmlab.core.errors import UserError


class Part:
    """A thing with a few arguments."""

    def __init__(self, size: int, inner: object = None, items: list[int] | None = None) -> None:
        if size < 0:
            raise ValueError(f"size must be positive,\n got {size}")
        self.size, self.inner, self.items = size, inner, items


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import sys

    module = ModuleType("ldmlab.nn.toys")
    module.os = os  # what a module imports is reachable through its name
    module.Part = Part
    monkeypatch.setattr(Part, "__module__", "ldmlab.nn.toys")
    monkeypatch.setitem(sys.modules, "ldmlab.nn.toys", module)
    names = instantiate.targets() | {PART, "ldmlab.nn.toys.Nothing"}
    monkeypatch.setattr(instantiate, "targets", lambda: names)


PART = "ldmlab.nn.toys.Part"


def test_nested_nodes_become_objects_with_plain_containers() -> None:
    inner = {"_target_": PART, "size": 1, "items": [1, 2]}
    cfg = OmegaConf.create({"n": 3, "part": {"_target_": PART, "size": "${n}", "inner": inner}})
    part = build(cfg.part)
    assert (part.size, part.inner.size) == (3, 1)
    assert type(part.inner.items) is list


def test_objects_are_passed_through_unchanged() -> None:
    thing = object()
    part = build({"_target_": PART, "size": 1, "inner": "replaced"}, inner=thing)
    assert part.inner is thing


def test_partial_target_takes_the_remaining_arguments() -> None:
    partial = build({"_target_": PART, "_partial_": True, "items": [1]}, inner=2)
    assert isinstance(partial, functools.partial)
    assert partial(size=5).size == 5


@pytest.mark.parametrize("target", ["ldmlab.nnx.Part", "ldmlab.nn.nothing.Here", "os.sep", 7])
def test_nested_unknown_target_is_named(target: object) -> None:
    node = {"_target_": PART, "size": 1, "inner": {"a": [{"_target_": target, "command": "x"}]}}
    with pytest.raises(UserError, match=r"model\.inner\.a\[0\]\._target_"):
        build(OmegaConf.create({"model": node}).model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sise": 1}, r"model\.sise: Part takes no 'sise'; did you mean size\?"),
        ({"size": -1}, r"model: size must be positive, got -1"),
        ({"size": "???"}, r"model is incomplete"),
    ],
)
def test_refused_values_name_the_path(change: dict[str, object], words: str) -> None:
    cfg = OmegaConf.create({"model": {"_target_": PART, "size": 1, **change}})
    with pytest.raises(UserError, match=words):
        build(cfg.model)


def test_missing_arguments_and_unknown_targets_are_named() -> None:
    with pytest.raises(UserError, match=r"model: Part missing a required argument: 'size'"):
        build(OmegaConf.create({"model": {"_target_": PART}}).model)
    with pytest.raises(UserError, match="no _target_"):
        build(OmegaConf.create({"model": {"size": 1}}).model)


def test_misspelt_target_suggests_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"did you mean ldmlab\.nn\.unet\.UNet\?"):
        build({"_target_": "ldmlab.nn.unet.Unet"})
