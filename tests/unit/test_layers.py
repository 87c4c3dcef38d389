"""Each layer imports without the packages that belong to the layers above it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_FOREIGN = ("lightning", "hydra", "omegaconf", "wandb", "diffusers")
_MAY = {"training": ("lightning", "wandb"), "interop": ("diffusers",)}
_LAYERS = (
    "core diffusion nn data autoencoding conditioning models evaluation interop training".split()
)

_JUDGING = "evaluation.vistas.metrics"
_READING = ("apps.commands.sample", "apps.commands.evaluate", "apps.commands.encode")

# One process per layer, forked from one that has torch already: its import takes seconds.
_PROBE = """
import importlib, json, os, pkgutil, sys
import torch
import ldmlab

def probe(layer):
    package = importlib.import_module(f"ldmlab.{layer}")
    inside = getattr(package, "__path__", ())  # a lone module has none
    for module in pkgutil.walk_packages(inside, package.__name__ + "."):
        importlib.import_module(module.name)
    return sorted({name.split(".")[0] for name in sys.modules})

pipes = {}
for layer in sys.argv[1:]:
    pipes[layer], write = os.pipe()
    if os.fork() == 0:
        try:
            answer = probe(layer)
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        with os.fdopen(write, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(write)
answers = {layer: json.load(os.fdopen(pipe)) for layer, pipe in pipes.items()}
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str] | str]:
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *_LAYERS, _JUDGING, *_READING],
        capture_output=True,
        text=True,
        check=True,
    )
    answers: dict[str, list[str] | str] = json.loads(done.stdout.splitlines()[-1])
    return answers


@pytest.mark.parametrize("layer", _LAYERS)
def test_layer_imports_only_its_own_packages(
    imported: dict[str, list[str] | str], layer: str
) -> None:
    modules = imported[layer]
    assert isinstance(modules, list), modules
    assert not set(modules) & set(_FOREIGN) - set(_MAY.get(layer, ()))


def test_evaluation_imports_neither_lightning_nor_hydra(
    imported: dict[str, list[str] | str],
) -> None:
    modules = imported[_JUDGING]
    assert isinstance(modules, list), modules
    assert "ldmlab" in modules and "torch" in modules
    assert not set(modules) & {"lightning", "hydra", "torchmetrics"}


@pytest.mark.parametrize("verb", _READING)
def test_reading_a_model_needs_no_lightning(
    imported: dict[str, list[str] | str], verb: str
) -> None:
    modules = imported[verb]
    assert isinstance(modules, list), modules
    assert "torch" in modules
    assert not set(modules) & {"lightning", "torchmetrics", "diffusers"}


def test_cli_starts_without_torch() -> None:
    code = (
        "import ldmlab.apps.cli.main, ldmlab.apps.cli.hydra_main\n"
        "import ldmlab.apps.runs.folder\n"
        "import sys; print('torch' in sys.modules, 'lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
