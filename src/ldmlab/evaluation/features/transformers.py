"""Vision transformers as feature networks: DINOv2, and the image half of CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ldmlab.conditioning.hub import offline
from ldmlab.core.errors import UserError
from ldmlab.evaluation.features.network import FeatureNetwork, Outputs, file_hash

_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_CLIP = ((122.7709383, 116.7460125, 104.09373615), (68.5005327, 66.6321579, 70.32316305))


def dinov2(given: str | None = None) -> FeatureNetwork:
    """DINOv2 ViT-L/14 at 224 pixels, its class token: 1024 features (Stein et al. 2023).

    Args:
        given: A folder, or a name on Hugging Face; None for the published one.

    Raises:
        UserError: It cannot be had.
    """
    name = given or "facebook/dinov2-large"
    body, file = _load(name, "networks.dinov2", "Dinov2Model")
    return FeatureNetwork(
        "dinov2", _Pooled(body, "pooler_output"), file_hash(file), 224, "dino_pil", *_IMAGENET
    )


def clip(given: str | None = None) -> FeatureNetwork:
    """CLIP ViT-L/14 at 336 pixels, projected, of length 1 (Jayasumana et al. 2024).

    Args:
        given: A folder, or a name on Hugging Face; None for the published one.

    Raises:
        UserError: It cannot be had.
    """
    name = given or "openai/clip-vit-large-patch14-336"
    body, file = _load(name, "networks.clip", "CLIPVisionModelWithProjection")
    size = int(body.config.image_size)
    pooled = _Pooled(body, "image_embeds", unit=True)
    return FeatureNetwork("clip", pooled, file_hash(file), size, "dino_pil", *_CLIP)


class _Pooled(nn.Module):
    """One row an image of a transformer's answers.

    Args:
        body: The transformer.
        output: Name of the answer.
        unit: Whether rows are brought to length 1.
    """

    def __init__(self, body: Any, output: str, unit: bool = False) -> None:
        super().__init__()
        self.body, self.output, self.unit = body, output, unit

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Outputs:
        """The rows as `features`."""
        rows: Tensor = self.body(pixel_values=x)[self.output]
        return {"features": nn.functional.normalize(rows, dim=1) if self.unit else rows}


def _load(name: str, key: str, kind: str) -> tuple[Any, Path]:
    """A network and the file of its weights; weights come from safetensors, and no code is run."""
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            f"{key} needs transformers: uv sync --extra text, or pip install 'ldmlab[text]'"
        ) from error
    transformers.logging.set_verbosity_error()
    here = Path(name).expanduser().is_dir()
    source = str(Path(name).expanduser()) if here else name
    try:
        if here:
            folder = Path(source)
        else:
            from huggingface_hub import snapshot_download

            wanted = ["config.json", "model.safetensors"]
            folder = Path(
                snapshot_download(source, allow_patterns=wanted, local_files_only=offline())
            )
        file = folder / "model.safetensors"
        if not file.is_file():
            raise FileNotFoundError(f"{file} is not there")
        body = getattr(transformers, kind).from_pretrained(
            folder, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # the hub's client has an exception for each of its reasons
        words = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the network {name} cannot be had ({words}): put its config.json and "
            f"model.safetensors into a folder, and name that with {key}=<folder>"
        ) from error
    return body, file
