"""Train the perceptual trunk from scratch: `python scripts/make_vistas_trunk.py`.

One thread and one seed, so that the same machine writes the same bytes again; the training split
of another seed's world is all that it sees.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from ldmlab.autoencoding import vistas_trunk
from ldmlab.autoencoding.vistas_trunk import TRUNK_ASSET, VistasTrunk
from ldmlab.core.random import derive_seed
from ldmlab.data.vistas.dataset import Vistas
from ldmlab.data.vistas.materials import MASK_LABELS

_BATCH = 48
_WORLD = 1


class _Labeller(nn.Module):
    """The trunk with a head that labels pixels from all stages; the head is thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = VistasTrunk()
        self.head = nn.Sequential(
            nn.Conv2d(sum(VistasTrunk.widths), 48, 1), nn.ReLU(), nn.Conv2d(48, len(MASK_LABELS), 1)
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b labels h w"]:
        size = images.shape[-2:]
        features = [nn.functional.interpolate(f, size, mode="nearest") for f in self.trunk(images)]
        logits: Tensor = self.head(torch.cat(features, dim=1))
        return logits


def train_trunk(steps: int, rate: float = 5e-3) -> VistasTrunk:
    """Learn to label pixels, half of the images with noise of up to 5 percent.

    Args:
        steps: Training steps of 48 images.
        rate: Peak learning rate of a one-cycle schedule.

    Returns:
        The trunk in evaluation mode.
    """
    torch.manual_seed(derive_seed("vistas trunk"))
    rng = torch.Generator().manual_seed(derive_seed("vistas trunk noise"))
    data = Vistas("train", steps * _BATCH, seed=_WORLD)
    network = _Labeller().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    start = time.monotonic()
    for step in range(steps):
        batch = data.__getitems__(range(step * _BATCH, (step + 1) * _BATCH))
        assert batch.image is not None and batch.mask is not None
        strength = 0.1 * torch.rand(_BATCH, 1, 1, 1, generator=rng)
        strength[::2] = 0
        images = batch.image + strength * torch.randn(batch.image.shape, generator=rng)
        logits = network(images)
        loss = nn.functional.cross_entropy(logits, batch.mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            right = (logits.argmax(1) == batch.mask).float().mean()
            seconds = time.monotonic() - start
            print(f"{step}: loss {loss.item():.4f}, pixels {right:.3f} ({seconds:.0f} s)")
    return network.trunk.eval()


def main() -> None:
    """Train the trunk and write it where the package looks for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(vistas_trunk.__file__).parent / "assets")
    parser.add_argument("--steps", type=int, default=900)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    state = train_trunk(options.steps).state_dict()
    half = {name: v.half() if v.is_floating_point() else v for name, v in state.items()}
    save_file(half, options.out / TRUNK_ASSET)
    print(f"{TRUNK_ASSET}: {(options.out / TRUNK_ASSET).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
