"""Conditioning on a caption through a frozen text encoder of transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from ldmlab.conditioning.conditioner import Conditioner, require
from ldmlab.conditioning.hub import offline
from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch, Conditioning, DataSpec

_DIGEST = 16


class HFText(Conditioner):
    """The last hidden states of a pretrained encoder (BERT, T5, CLIP, ...), which stays as it is.

    The encoder is no part of what is trained, averaged or stored; its hash is, so that a model is
    never given the states of another one. Padding is hidden from the encoder and zero after it.

    Args:
        encoder: A folder that transformers can read, or a name on Hugging Face.
        max_length: Number of tokens; longer captions are cut.
        pooled: Give the mean of the caption's tokens as a vector for the time embedding too.

    Raises:
        UserError: The encoder cannot be had.
    """

    def __init__(
        self, encoder: str | None = None, max_length: int = 77, pooled: bool = False
    ) -> None:
        super().__init__()
        if encoder is None:
            raise UserError(
                "conditioner.encoder is not set: name a text encoder's folder, or one on Hugging "
                "Face, such as google-t5/t5-base"
            )
        self.name, self.max_length = encoder, max_length
        module, self._tokenizer, width = _load(encoder)
        self._frozen = _Frozen(module)
        self.token_dim: int = width
        self.vector_dim = width if pooled else None
        self._empty: Tensor
        self.fingerprint: Tensor
        self.register_buffer("_empty", self._tokens([""]), persistent=False)
        self.register_buffer("fingerprint", _fingerprint(module))

    @classmethod
    def for_data(cls, spec: DataSpec, factor: int, **options: Any) -> HFText:
        """The conditioner for a data set; the codec's factor does not matter.

        Raises:
            UserError: The data has no captions.
        """
        require(spec.vocabulary, "caption", "hf_text")
        return cls(**options)

    def select(self, batch: Batch) -> Int[Tensor, "b 2 n"]:
        """The caption's tokens, and 1 where they are no padding.

        Raises:
            UserError: There are no captions.
        """
        return self._tokens(require(batch.caption, "caption", "hf_text")).to(self._empty.device)

    def null(self, condition: Int[Tensor, "b 2 n"]) -> Int[Tensor, "b 2 n"]:
        """The empty caption."""
        return self._empty.expand_as(condition)

    def forward(self, condition: Int[Tensor, "b 2 n"]) -> Conditioning:
        """The caption as a sequence, and pooled where asked for."""
        ids, real = condition.unbind(1)
        if ids.is_meta:  # transformers looks at the mask's values
            tokens = torch.empty(*ids.shape, self.token_dim, device="meta")
        else:
            encoder = self._frozen.on(ids.device)
            with torch.no_grad():
                tokens = encoder(input_ids=ids, attention_mask=real).last_hidden_state
            tokens = tokens * real[..., None].to(tokens.dtype)
        if self.vector_dim is None:
            return Conditioning(tokens=tokens)
        # An empty caption may have no token at all.
        count = real.sum(1, keepdim=True).clamp(min=1)
        return Conditioning(tokens=tokens, vector=tokens.sum(1) / count)

    def _tokens(self, captions: Sequence[str]) -> Int[Tensor, "b 2 n"]:
        found = self._tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=self.max_length
        )
        both = [found["input_ids"], found["attention_mask"]]
        return torch.tensor(both, device="cpu").transpose(0, 1).contiguous()

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, *rest: Any
    ) -> None:
        stored = state_dict.get(f"{prefix}fingerprint")
        mine = self.fingerprint.clone()
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if stored is not None and not mine.is_meta and not torch.equal(stored.cpu(), mine.cpu()):
            errors: list[str] = rest[-1]
            errors.append(f"conditioner.encoder={self.name} is not the encoder it was trained with")


class _Frozen:
    """Keeps a module out of its owner's parameters, state and copies.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module.requires_grad_(False).eval()

    def on(self, device: torch.device) -> nn.Module:
        """The module, moved where it is needed."""
        if next(self.module.parameters()).device != device:
            self.module.to(device)
        return self.module

    def __deepcopy__(self, memo: dict[int, Any]) -> _Frozen:
        return self


def _load(name: str) -> tuple[nn.Module, Any, int]:
    """Encoder, tokenizer and width; weights come from safetensors only, and no code is run."""
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            "conditioner=hf_text needs transformers: uv sync --extra text, or pip install "
            "'ldmlab[text]'"
        ) from error
    transformers.logging.set_verbosity_error()  # of weights that an encoder leaves unused
    here = Path(name).expanduser().is_dir()
    options = {"trust_remote_code": False, "local_files_only": here or offline()}
    source = str(Path(name).expanduser()) if here else name
    try:
        config = transformers.AutoConfig.from_pretrained(source, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
        clip = config.model_type in ("clip", "clip_text_model")
        kind: Any = transformers.CLIPTextModel if clip else transformers.AutoModelForTextEncoding
        if torch.empty(0).is_meta:  # sizes are asked for, no numbers
            model = (
                kind._from_config(config.get_text_config()) if clip else kind.from_config(config)
            )
        else:
            model = kind.from_pretrained(source, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        words = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"conditioner.encoder={name} cannot be had ({words}): name a folder with config.json, "
            "model.safetensors and a tokenizer, or, online, a text encoder on Hugging Face"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.float(), tokenizer, int(model.config.hidden_size)


def _fingerprint(module: nn.Module) -> UInt8[Tensor, " 16"]:
    """A hash of the weights; zeros where they have no numbers."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for name, value in sorted(module.state_dict().items()):
        if value.is_meta:
            return torch.zeros(_DIGEST, dtype=torch.uint8)
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)
