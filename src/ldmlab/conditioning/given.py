"""A conditioner that passes on precomputed conditions."""

from __future__ import annotations

from typing import NoReturn

from jaxtyping import Shaped
from torch import Tensor, nn

from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch, Conditioning


class GivenConditioner(Conditioner):
    """Token numbers, embeddings or maps from elsewhere, which no data set here holds.

    A model with it is called on its condition, not on a batch: `model.network.conditioner(y)`.

    Args:
        what: What the condition is, for the message where a batch is given instead.
        embed: Network that the condition passes; none for one that is handed on as it is.
        token_dim: Width of the tokens; None for maps.
        map_channels: Channels of the maps; 0 for tokens.
    """

    input_key = None

    def __init__(
        self,
        what: str,
        embed: nn.Module | None = None,
        token_dim: int | None = None,
        map_channels: int = 0,
    ) -> None:
        super().__init__()
        self.what = what
        self.embed = nn.Identity() if embed is None else embed
        self.token_dim = token_dim
        self.map_channels = map_channels

    def select(self, batch: Batch) -> NoReturn:
        """Refuse.

        Raises:
            UserError: Always: no batch holds such a condition.
        """
        raise UserError(
            f"this model is conditioned on {self.what}, which no data here holds: "
            "call its conditioner on them and sample with its process"
        )

    def null(self, condition: Shaped[Tensor, " b *shape"]) -> NoReturn:
        """Refuse.

        Raises:
            UserError: Always: the null condition is for the condition's maker to give.
        """
        raise UserError(f"nothing here says which {self.what} stand for no condition")

    def forward(self, condition: Shaped[Tensor, " b *shape"]) -> Conditioning:
        """Maps [b, c, h, w] for the network's input, or tokens [b, n, d] for its attention."""
        value = self.embed(condition)
        return Conditioning(maps=value) if value.ndim == 4 else Conditioning(tokens=value)
