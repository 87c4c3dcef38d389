"""Train the judge's two networks from scratch: `python scripts/make_vistas_judge.py`.

One thread and one seed, so that the same machine writes the same bytes again. Nothing but the
procedural world is needed, and only its training split is seen.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from ldmlab.core.random import derive_seed
from ldmlab.data.vistas.dataset import SPLITS
from ldmlab.data.vistas.scene import SLOTS, Scenes, sample_scenes
from ldmlab.evaluation.vistas import networks
from ldmlab.evaluation.vistas.corruptions import BROKEN_OBJECTS, RUINS, mild, pictures
from ldmlab.evaluation.vistas.networks import (
    JUDGE_ASSET,
    SEGMENTER_ASSET,
    UNRECOGNISABLE,
    VistasJudge,
    VistasSegmenter,
)

_BATCH = 96
_IGNORED = -1

Network = TypeVar("Network", bound=nn.Module)


def _scenes(step: int, count: int) -> Scenes:
    start = SPLITS["train"].start + step * _BATCH * 2
    return sample_scenes(0, np.arange(start, start + count))


def _with_object(scenes: Scenes) -> Scenes:
    return scenes[np.flatnonzero(scenes.object > 0)]


def _targets(scenes: Scenes) -> dict[str, Tensor]:
    return {slot: torch.from_numpy(np.array(scenes.slot(slot))) for slot in SLOTS}


def judge_batch(step: int, rng: Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Images of one training step with the answer of every head; -1 where none is asked.

    Half are landscapes, plain or mildly degraded; the rest keeps all but its object, or nothing.
    """
    scenes = _scenes(step, 2 * _BATCH)
    real, broken, ruined = scenes[: _BATCH // 2], scenes[_BATCH // 2 : _BATCH], scenes[_BATCH:]
    broken, ruined = _with_object(broken), ruined[: _BATCH // 5]
    plain, _ = pictures(real)
    plain[::2] = mild(plain[::2], rng)
    bad = BROKEN_OBJECTS[step % len(BROKEN_OBJECTS)](broken, rng)
    ruin = RUINS[step % len(RUINS)](pictures(ruined)[0], rng)
    if step % 3:
        bad, ruin = mild(bad, rng), mild(ruin, rng)
    answers = []
    for part, valid in ((real, 1), (broken, 0), (ruined, 0)):
        answer = _targets(part)
        if part is ruined:
            answer = {slot: torch.full_like(value, _IGNORED) for slot, value in answer.items()}
        if not valid:
            answer["object"] = torch.full_like(answer["object"], UNRECOGNISABLE)
        answers.append(answer | {"valid": torch.full_like(answer["time"], valid)})
    joined = {name: torch.cat([answer[name] for answer in answers]) for name in answers[0]}
    return torch.cat([plain, bad, ruin]), joined


def _judge_loss(network: VistasJudge, step: int, rng: Generator) -> Float[Tensor, ""]:
    images, answers = judge_batch(step, rng)
    logits = network(images)
    losses = [
        cross_entropy(logits[name], answer, ignore_index=_IGNORED)
        for name, answer in answers.items()
        if bool((answer != _IGNORED).any())
    ]
    return torch.stack(losses).sum()


def _segmenter_loss(network: VistasSegmenter, step: int, rng: Generator) -> Float[Tensor, ""]:
    images, masks = pictures(_scenes(step, _BATCH // 2))
    images[::2] = mild(images[::2], rng)
    return cross_entropy(network(images), masks)


def _train(
    network: Network, loss_of: Callable[[Network, int, Generator], Tensor], steps: int, rate: float
) -> Network:
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    rng = torch.Generator().manual_seed(derive_seed("vistas judge", type(network).__name__))
    start, network = time.monotonic(), network.train()
    for step in range(steps):
        loss = loss_of(network, step, rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            seconds = time.monotonic() - start
            print(f"{type(network).__name__} {step}: {loss.item():.4f} ({seconds:.0f} s)")
    return network.eval()


def _save(network: nn.Module, path: Path) -> None:
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    half = {name: v.half() if v.is_floating_point() else v for name, v in state.items()}
    save_file(half, path)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Train both networks and write them where the package looks for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(networks.__file__).parent / "assets")
    parser.add_argument("--judge-steps", type=int, default=1_100)
    parser.add_argument("--segmenter-steps", type=int, default=700)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(derive_seed("vistas judge", 0))
    judge = _train(VistasJudge(), _judge_loss, options.judge_steps, 4e-3)
    _save(judge, options.out / JUDGE_ASSET)
    torch.manual_seed(derive_seed("vistas segmenter", 0))
    segmenter = _train(VistasSegmenter(), _segmenter_loss, options.segmenter_steps, 6e-3)
    _save(segmenter, options.out / SEGMENTER_ASSET)


if __name__ == "__main__":
    main()
