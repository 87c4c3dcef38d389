"""Conditioning on a caption through a frozen text encoder of transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ldmlab.conditioning.conditioner import Conditioner, require
from ldmlab.conditioning.hub import offline
from ldmlab.core.errors import UserError
from ldmlab.core.ranges import positive_int
from ldmlab.core.records import Batch, Conditioning, DataSpec, TextStates

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

    input_key = "caption"

    def __init__(
        self, encoder: str | None = None, max_length: int = 77, pooled: bool = False
    ) -> None:
        super().__init__()
        positive_int(max_length=max_length)
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
        self._null: Tensor
        self.fingerprint: Tensor
        self.register_buffer("_null", torch.empty(0), persistent=False)
        self._null = self._condition(self._encode([""]))
        self.register_buffer("fingerprint", _fingerprint(module))

    @classmethod
    def for_data(cls, spec: DataSpec, factor: int, **options: Any) -> HFText:
        """The conditioner for a data set; the codec's factor does not matter.

        Raises:
            UserError: The data has no captions.
        """
        require(spec.vocabulary, "caption", "hf_text")
        return cls(**options)

    @property
    def cache_key(self) -> dict[str, Any]:
        """The encoder by its weights, and what it reads of a caption."""
        weights = bytes(self.fingerprint.tolist()).hex()
        return {"conditioner.encoder": weights, "conditioner.max_length": self.max_length}

    def precompute(self, batch: Batch) -> Batch:
        """The batch with its captions encoded.

        Raises:
            UserError: There are no captions.
        """
        captions = require(batch.caption, "caption", "hf_text")
        places = {caption: k for k, caption in enumerate(dict.fromkeys(captions))}
        rows = [places[caption] for caption in captions]
        text = self._encode(list(places))
        return replace(batch, text=TextStates(text.states[rows], text.length[rows]))

    def select(self, batch: Batch) -> Float[Tensor, "b n d_and_1"]:
        """The caption's hidden states, and behind each 1, or 0 for padding.

        Raises:
            UserError: There are no captions.
        """
        if batch.text is not None:
            return self._condition(batch.text)
        return self._condition(self._encode(require(batch.caption, "caption", "hf_text")))

    def null(self, condition: Float[Tensor, "b n d_and_1"]) -> Float[Tensor, "b n d_and_1"]:
        """The empty caption."""
        return self._null.expand_as(condition)

    def forward(self, condition: Float[Tensor, "b n d_and_1"]) -> Conditioning:
        """The caption as a sequence, and pooled where asked for."""
        tokens, real = condition[..., :-1], condition[..., -1]
        if self.vector_dim is None:
            return Conditioning(tokens=tokens)
        # An empty caption may have no token at all.
        return Conditioning(
            tokens=tokens, vector=tokens.sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        )

    @torch.no_grad()
    def _encode(self, captions: Sequence[str]) -> TextStates:
        found = self._tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=self.max_length
        )
        device = self._null.device
        ids, real = (
            torch.tensor(found[name], device=device) for name in ("input_ids", "attention_mask")
        )
        if device.type == "meta":  # transformers looks at the mask's values
            states = torch.empty(*ids.shape, self.token_dim, device="meta")
        else:
            encoder = self._frozen.on(device)
            states = encoder(input_ids=ids, attention_mask=real).last_hidden_state
        return TextStates(states * real[..., None].to(states.dtype), real.sum(1))

    def _condition(self, text: TextStates) -> Float[Tensor, "b n d_and_1"]:
        states = text.states.to(self._null.device, torch.float32)
        states = F.pad(states, (0, 0, 0, self.max_length - states.shape[1]))
        places = torch.arange(self.max_length, device=states.device)
        real = places < text.length.to(states.device)[:, None]
        return torch.cat([states, real[..., None].to(states.dtype)], dim=2)

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
    tokenizer.padding_side = "right"
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
