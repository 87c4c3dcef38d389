"""The patch discriminator's layers, and the patches that they see."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldmlab.nn.discriminator import PatchDiscriminator


@pytest.mark.parametrize(("num_layers", "side"), [(1, 16), (2, 34), (3, 70)])
def test_discriminator_logit_sees_a_patch(num_layers: int, side: int) -> None:
    """70 pixels of three layers (Isola et al. 2017, section 3.2)."""
    torch.manual_seed(0)
    judge = PatchDiscriminator(1, 4, num_layers, norm="group")
    # A norm over the whole map would let every pixel count.
    for name, module in list(judge.main.named_children()):
        if isinstance(module, nn.GroupNorm):
            judge.main.register_module(name, nn.Identity())
    image = torch.randn(1, 1, 96, 96, requires_grad=True)
    logits = judge(image)
    middle = logits.shape[-1] // 2
    (slope,) = torch.autograd.grad(logits[0, 0, middle, middle], image)
    rows = slope[0, 0].abs().sum(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == side


def test_discriminator_doubles_its_width_up_to_eight_times() -> None:
    judge = PatchDiscriminator(3, 8, 5)
    layers = [m for m in judge.main if isinstance(m, nn.Conv2d)]
    assert [layer.out_channels for layer in layers] == [8, 16, 32, 64, 64, 64, 1]
    assert [layer.stride[0] for layer in layers] == [2, 2, 2, 2, 2, 1, 1]
    assert [layer.bias is not None for layer in layers] == [True, *[False] * 5, True]


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm2d), ("group", nn.GroupNorm)])
def test_discriminator_norms_all_layers_but_the_first_and_last(
    norm: str, kind: type[nn.Module]
) -> None:
    judge = PatchDiscriminator(3, 8, 2, norm=norm)  # type: ignore[arg-type]
    kinds = [type(m) for m in judge.main]
    inner = [nn.Conv2d, kind, nn.LeakyReLU]
    assert kinds == [nn.Conv2d, nn.LeakyReLU, *inner, *inner, nn.Conv2d]
    assert {m.negative_slope for m in judge.main if isinstance(m, nn.LeakyReLU)} == {0.2}


def test_discriminator_of_group_norm_judges_each_image_alone() -> None:
    torch.manual_seed(0)
    judge, images = PatchDiscriminator(3, 8, 2, norm="group"), torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(judge(images)[:1], judge(images[:1]))
    assert PatchDiscriminator(3, 8, 2).main[3].track_running_stats


def test_discriminator_weights_start_small() -> None:
    """Isola et al. (2017): N(0, .02²); of the norms N(1, .02²)."""
    torch.manual_seed(0)
    judge = PatchDiscriminator(3, 64, 3)
    conv = torch.cat([m.weight.flatten() for m in judge.main if isinstance(m, nn.Conv2d)])
    norm = torch.cat([m.weight for m in judge.main if isinstance(m, nn.BatchNorm2d)])
    assert float(conv.mean()) == pytest.approx(0, abs=1e-4)
    assert float(conv.std()) == pytest.approx(0.02, rel=0.01)
    assert float(norm.mean()) == pytest.approx(1, abs=0.005)
    assert float(norm.std()) == pytest.approx(0.02, rel=0.1)
    assert not any(m.bias.any() for m in judge.main if isinstance(m, nn.BatchNorm2d))
