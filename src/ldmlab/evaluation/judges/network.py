"""A judge of one's own domain: a small network that has learned the user's own images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ldmlab.core.errors import UserError
from ldmlab.core.files import atomic_write
from ldmlab.evaluation.features.network import FeatureNetwork, Outputs, file_hash

_LEVELS = [127.5] * 3
_FORMAT = "ldmlab judge 1"


@dataclass(frozen=True)
class JudgeFacts:
    """What a judge is, as its file says.

    Attributes:
        task: What it has learned to name: the images' classes, or by how much they are turned.
        classes: Names of its answers.
        size: Side of its input in pixels.
        held_out_accuracy: Share of right answers on images that it has not learned.
        held_out: How many these were.
        trained_on: How many it has learned.
        data: What decides the pixels of both, sixteen hexadecimal digits.
        steps: Batches that it has learned.
        seed: Of its weights and batches.
    """

    task: Literal["classes", "rotations"]
    classes: tuple[str, ...]
    size: int
    held_out_accuracy: float
    held_out: int
    trained_on: int
    data: str
    steps: int
    seed: int


class JudgeBody(nn.Module):
    """Four convolutions over pixels taken two by two; the answers are read from their means.

    Args:
        answers: How many answers there are.
    """

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.PixelUnshuffle(2),
            _block(12, 32),
            _block(32, 64, stride=2),
            _block(64, 64),
            _block(64, 128, stride=2),
        )
        self.head = nn.Linear(128, answers)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Outputs:
        """Rows of 128 `features`, and `logits` of the answers."""
        features = self.trunk(x).mean((2, 3))
        return {"features": features, "logits": self.head(features)}


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Judge(FeatureNetwork):
    """A trained judge as a feature network.

    Args:
        body: The network.
        facts: What it is.
        fingerprint: SHA-256 of its file.
    """

    def __init__(self, body: JudgeBody, facts: JudgeFacts, fingerprint: str) -> None:
        size = facts.size
        super().__init__("judge", body, fingerprint, size, "torch_antialias", _LEVELS, _LEVELS)
        self.facts = facts


def write_judge(path: Path, body: JudgeBody, facts: JudgeFacts) -> None:
    """Write a judge's weights and what it is."""
    told = {"format": _FORMAT, "facts": json.dumps(asdict(facts))}
    state = {name: value.cpu().contiguous() for name, value in body.state_dict().items()}
    with atomic_write(path) as file:
        file.write(save(state, told))


def load_judge(path: Path, key: str = "networks.judge") -> Judge:
    """Read a judge.

    Args:
        path: Its file.
        key: Under which the user named it, for messages.

    Raises:
        UserError: It is no judge's file.
    """
    try:
        with safe_open(path, "pt") as file:
            told: dict[str, Any] = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if told.get("format") != _FORMAT:
            raise ValueError("its header names no judge")
        table = json.loads(told["facts"])
        facts = JudgeFacts(**{**table, "classes": tuple(table["classes"])})
        body = JudgeBody(len(facts.classes))
        body.load_state_dict(state)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{key}={path} is no judge ({str(error).splitlines()[0]}): train one with `ldmlab "
            "evaluate train_judge=true data=<name>`"
        ) from error
    return Judge(body, facts, file_hash(path))


def seen_by_judge(images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
    """Levels in [0, 255] as a judge's body reads them."""
    return (images - _LEVELS[0]) / _LEVELS[0]


def untrained(answers: int, seed: int) -> JudgeBody:
    """A body with the weights that a seed gives; the global generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return JudgeBody(answers)
