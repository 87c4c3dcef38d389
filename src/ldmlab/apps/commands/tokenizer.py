"""`ldmlab data action=tokenizer`: a WordPiece vocabulary from the training captions at hand."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig
from rich.progress import track

from ldmlab.apps.config.instantiate import build
from ldmlab.conditioning.vocabulary import BERT_TOKENS
from ldmlab.conditioning.vocabulary_files import write_vocabulary
from ldmlab.conditioning.vocabulary_making import train_vocabulary
from ldmlab.core.errors import UserError
from ldmlab.core.files import check_new
from ldmlab.core.terminal import console
from ldmlab.data.sampling.datasets import BatchDataset

_AT_ONCE = 1000


def make_tokenizer(cfg: DictConfig) -> None:
    """Learn a vocabulary of `data.vocabulary_size` tokens at most, and write its folder.

    Args:
        cfg: An experiment's configuration; `data.limit` captions are read.

    Raises:
        UserError: The data has no captions, or `out` cannot be written.
    """
    if cfg.out is None:
        raise UserError("out is mandatory: ldmlab data action=tokenizer out=<folder to write>")
    check_new(cfg.out)
    train: BatchDataset = build(cfg.data.train)
    count = min(len(train), cfg.data.limit or len(train))
    size = cfg.data.vocabulary_size or BERT_TOKENS
    tokens = train_vocabulary(_Captions(train, count), size)
    write_vocabulary(cfg.out, tokens)
    console.print(f"{len(tokens):,} tokens from {count:,} captions are in {cfg.out}")
    if "vocabulary" in cfg.data:
        console.print(f"next: data.vocabulary={cfg.out} data.vocabulary_size={len(tokens)}")


class _Captions:
    """The first captions of a data set, which may be gone through again.

    Args:
        data: The data set.
        count: How many to take.
    """

    def __init__(self, data: BatchDataset, count: int) -> None:
        self.data = data
        self.count = count

    def __iter__(self) -> Iterator[str]:
        steps = range(0, self.count, _AT_ONCE)
        for start in track(steps, "reading captions", console=console):
            texts = self.data.captions(list(range(start, min(start + _AT_ONCE, self.count))))
            if texts is None:
                raise UserError("this data has no captions to make a tokenizer from")
            yield from texts
