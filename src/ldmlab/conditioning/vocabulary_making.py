"""Vocabularies from captions: whole words by their number, or pieces learned from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from rich.progress import track
from tokenizers import BertWordPieceTokenizer

from ldmlab.conditioning.vocabulary import BERT_TOKENS, SPECIALS
from ldmlab.core.errors import UserError
from ldmlab.core.ranges import whole_above
from ldmlab.core.terminal import console
from ldmlab.data.sampling.datasets import BatchDataset

_PRINTABLE = {chr(code) for code in range(33, 127) if not chr(code).isupper()}
_AT_ONCE = 1000
_LETTERS = 1000  # at most, as BERT's; the others become [UNK]


def build_vocabulary(captions: Iterable[str], size: int = BERT_TOKENS) -> list[str]:
    """A WordPiece vocabulary: specials, single characters, then the most frequent words.

    The same captions always give the same list. A word that did not make it is spelled out;
    every ASCII character has its place, so that English never meets an unknown token.

    Args:
        captions: Texts to count words in.
        size: Largest number of entries.
    """
    whole_above(len(SPECIALS))(size=size)
    splitter = BertWordPieceTokenizer()
    words: Counter[str] = Counter()
    for caption in captions:
        normal = splitter.normalize(caption)
        words.update(word for word, _ in splitter.pre_tokenizer.pre_tokenize_str(normal))
    pieces = _pieces(set().union(*words))
    known = set(pieces)
    ranked = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    return [*pieces, *(word for word, _ in ranked if word not in known)][:size]


def train_vocabulary(captions: Iterable[str], size: int = BERT_TOKENS) -> tuple[str, ...]:
    """A WordPiece vocabulary made from captions (Schuster and Nakajima 2012), as BERT's was.

    The same captions give the same tokens.

    Args:
        captions: Texts to learn from; they are read twice.
        size: Largest number of tokens.

    Raises:
        UserError: The captions have no letters, or more than there are tokens.
    """
    whole_above(len(SPECIALS))(size=size)
    tokenizer = BertWordPieceTokenizer()
    letters: Counter[str] = Counter()
    for caption in captions:
        letters.update(tokenizer.normalize(caption))
    del letters[" "]
    if not letters:
        raise UserError("the captions have no letters to make a vocabulary from")
    ranked = sorted(letters, key=lambda letter: (-letters[letter], letter))[:_LETTERS]
    # Given, not found: the trainer would number what it finds in another order each time, and
    # merges that occur equally often go by number.
    given = _pieces(ranked)
    if len(given) > size:
        raise UserError(
            f"the captions have {len(ranked)} letters, which take {len(given)} tokens: raise "
            f"data.vocabulary_size={size}"
        )
    tokenizer.train_from_iterator(
        captions, vocab_size=size, special_tokens=given, show_progress=False
    )
    numbers = tokenizer.get_vocab()
    return tuple(sorted(numbers, key=numbers.__getitem__))


def _pieces(characters: Iterable[str]) -> list[str]:
    """The specials, and each character at the begin of a word and within one."""
    alphabet = sorted(_PRINTABLE.union(characters))
    return [*SPECIALS, *alphabet, *(f"##{character}" for character in alphabet)]


class FirstCaptions:
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
