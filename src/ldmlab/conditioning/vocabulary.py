"""WordPiece over a vocabulary that is a plain list of words."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Int
from tokenizers import BertWordPieceTokenizer
from torch import Tensor

from ldmlab.core.ranges import whole_above

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

BERT_TOKENS = 30_522
"""Size of the published uncased vocabulary, which the published text models take."""


class WordPiece:
    """BERT's tokenizer: lower case, [CLS] words [SEP], padded to one length.

    Args:
        vocabulary: The tokens in order of their numbers.
        max_length: Length of every sequence; longer texts are cut.
    """

    def __init__(self, vocabulary: Sequence[str], max_length: int = 77) -> None:
        whole_above(2)(max_length=max_length)  # [CLS] and [SEP] take two
        self.vocabulary = list(vocabulary)
        self.max_length = max_length
        numbers = {token: number for number, token in enumerate(vocabulary)}
        self._tokenizer = BertWordPieceTokenizer(numbers)
        self._tokenizer.enable_truncation(max_length)
        self._tokenizer.enable_padding(pad_id=numbers["[PAD]"], length=max_length)
        self._seen, self._cut, self._tell_at = 0, 0, 1

    def __call__(self, captions: Sequence[str]) -> Int[Tensor, "b n"]:
        """Token numbers of each caption; a warning counts those that were cut."""
        encodings = self._tokenizer.encode_batch(list(captions))
        self._seen += len(encodings)
        self._cut += sum(bool(encoding.overflowing) for encoding in encodings)
        if self._cut >= self._tell_at:
            self._tell_at = 10 ** len(str(self._cut))
            warnings.warn(
                f"{self._cut:,} of {self._seen:,} captions so far are longer than "
                f"{self.max_length} tokens and were cut",
                stacklevel=2,
            )
        return torch.tensor([encoding.ids for encoding in encodings], device="cpu")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole tokenizer as a `tokenizer.json`, without a length."""
        whole = BertWordPieceTokenizer({t: n for n, t in enumerate(self.vocabulary)})
        whole.save(os.fspath(path))
