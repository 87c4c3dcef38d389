"""The Inception network of FID: TensorFlow's of 2015-12-05, as ported to PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

from ldmlab.core.checkpoint_file import load_weights
from ldmlab.core.errors import UserError
from ldmlab.evaluation.features.network import FeatureNetwork, Outputs, file_hash
from ldmlab.evaluation.features.weights import weights_file

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
KEY = "networks.inception"
_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
_CLASSES = 1008


def inception(given: str | None = None) -> FeatureNetwork:
    """The network with its input as torch-fidelity and ADM prepare it.

    Args:
        given: A file or an address; None for the published one.

    Raises:
        UserError: The file cannot be had, or is another network's.
    """
    path = weights_file(given, KEY, "the Inception network", _URL)
    found = file_hash(path)
    if found != SHA256:
        raise UserError(
            f"{path} is not the Inception network of FID: its SHA-256 begins with {found[:8]}, "
            f"that one's with {SHA256[:8]}; put the right file in its place or under {KEY}"
        )
    body = InceptionBody()
    state = torch.load(path, map_location="cpu", weights_only=True)
    load_weights(body.network, state, f"{path} does not fit the Inception network")
    return FeatureNetwork("inception", body, found, 299, "tf1", [128.0] * 3, [128.0] * 3)


class InceptionBody(nn.Module):
    """Pooled features, ADM's spatial features, and logits without their bias."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models.inception import Inception3  # seconds to import

        self.network = Inception3(_CLASSES, aux_logits=False, init_weights=False)
        average = partial(avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
        for name in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b"):
            _pool_by(self.network.get_submodule(f"Mixed_{name}"), average)
        highest = partial(max_pool2d, kernel_size=3, stride=1, padding=1)
        _pool_by(self.network.Mixed_7c, highest)

    def forward(self, x: Float[Tensor, "b 3 299 299"]) -> Outputs:
        """Rows of 2048 `features`, 2023 `spatial` ones (7 of mixed_6/conv), and 1008 `logits`."""
        spatial: list[Tensor] = []
        conv = self.network.Mixed_6d.branch1x1
        hook = conv.register_forward_hook(lambda *call: spatial.append(call[2]))
        try:
            for name, layer in self.network.named_children():
                if name == "avgpool":
                    break
                x = layer(x)
        finally:
            hook.remove()
        features = x.mean((2, 3))
        return {
            "features": features,
            "spatial": spatial[0][:, :7].flatten(1),
            "logits": features @ self.network.fc.weight.T,
        }


def _pool_by(block: Any, pool: Callable[[Tensor], Tensor]) -> None:
    """Give a block the pooling of TensorFlow's network in its last branch."""
    branches = block._forward
    block._forward = lambda x: [*branches(x)[:-1], block.branch_pool(pool(x))]
