"""What each conditioner gives, what saying nothing means, and what it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ldmlab.conditioning.classes import ClassConditioner
from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.conditioning.masks import MaskConditioner
from ldmlab.conditioning.none import Unconditional
from ldmlab.conditioning.text import TextConditioner
from ldmlab.conditioning.vocabulary import WordPiece
from ldmlab.conditioning.vocabulary_making import build_vocabulary
from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch

CAPTIONS = ("a red house on the left", "an empty sea", "a tree", "a red boat")
VOCABULARY = build_vocabulary(CAPTIONS)
BATCH = Batch(
    index=torch.arange(4),
    label=torch.tensor([0, 1, 2, 0]),
    mask=torch.randint(0, 5, (4, 16, 16)),
    caption=CAPTIONS,
)
ALL = [
    Unconditional(),
    ClassConditioner(3, 8, pooled=True),
    MaskConditioner(5, 4, 6),
    TextConditioner(VOCABULARY, 12, 8, 1, 2, 4, pooled=True),
]


@pytest.mark.parametrize("conditioner", ALL)
def test_conditioner_slots_have_the_promised_shapes(conditioner: Conditioner) -> None:
    given = conditioner(conditioner.select(BATCH))
    if conditioner.token_dim is None:
        assert given.tokens is None
    else:
        assert given.tokens.shape[::2] == (4, conditioner.token_dim)
    if conditioner.map_channels:
        assert given.maps.shape == (4, conditioner.map_channels, 4, 4)
    if conditioner.vector_dim is not None:
        assert given.vector.shape == (4, conditioner.vector_dim)


@pytest.mark.parametrize("conditioner", ALL[1:])
def test_dropped_condition_equals_the_null_condition(conditioner: Conditioner) -> None:
    condition = conditioner.select(BATCH)
    dropped = conditioner.drop(condition, torch.tensor([True, False, False, True]))
    null = conditioner.null(condition)
    assert torch.equal(dropped[0], null[0])
    assert torch.equal(dropped[3], null[3])
    assert torch.equal(dropped[1:3], condition[1:3])
    assert not torch.equal(condition[0], null[0])


@pytest.mark.parametrize(
    ("conditioner", "word"), list(zip(ALL[1:], ("class", "mask", "caption"), strict=True))
)
def test_missing_condition_is_named(conditioner: Conditioner, word: str) -> None:
    with pytest.raises(UserError, match=word):
        conditioner.select(Batch(index=torch.arange(4)))


def test_class_or_label_outside_the_table_is_named() -> None:
    for wrong in (9, 3, -1):  # 3 is the null class
        with pytest.raises(UserError, match=f"class {wrong} .* from 0 to 2"):
            ALL[1].select(Batch(index=torch.arange(1), label=torch.tensor([wrong])))
    with pytest.raises(UserError, match="label 7"):
        ALL[2].select(Batch(index=torch.arange(1), mask=torch.full((1, 16, 16), 7)))


def test_unlabelled_mask_pixels_give_zero_maps() -> None:
    maps = ALL[2](torch.full((1, 16, 16), 255)).maps
    assert not maps.any()


class _Largest(TorchDispatchMode):
    """The largest tensor that any operation gives, in values."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.values = max(self.values, out.numel())
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("factor", [1, 3, 4])
def test_mask_maps_are_area_means_of_one_hot_labels(dtype: torch.dtype, factor: int) -> None:
    mask = torch.randint(0, 7, (2, 12, 24))
    mask[torch.rand(mask.shape) < 0.2] = 255
    conditioner = MaskConditioner(7, factor, map_channels=None)
    one_hot = (mask[:, None] == torch.arange(7)[:, None, None]).float()
    with _Largest() as largest:
        maps = conditioner(mask).maps
    assert torch.equal(maps, F.avg_pool2d(one_hot, factor))
    if factor > 1:
        assert largest.values < one_hot.numel(), "a picture of one-hot labels is never made"
    projected = MaskConditioner(7, factor, map_channels=3).to(dtype)
    expected = projected.proj(F.avg_pool2d(one_hot.to(dtype), factor))
    torch.testing.assert_close(projected(mask).maps, expected)


def test_vocabulary_is_stable_and_spells_unknown_words() -> None:
    assert build_vocabulary(CAPTIONS) == build_vocabulary(tuple(reversed(CAPTIONS)))
    tokenizer = WordPiece(VOCABULARY, 16)
    ids = tokenizer(["A RED house!", "zebra", ""])
    words = [[VOCABULARY[i] for i in row if VOCABULARY[i] != "[PAD]"] for row in ids]
    assert words[0] == ["[CLS]", "a", "red", "house", "!", "[SEP]"]
    assert words[1] == ["[CLS]", "z", "##e", "##b", "##r", "##a", "[SEP]"]
    assert words[2] == ["[CLS]", "[SEP]"]
    assert ids.shape == (3, 16)


def test_long_caption_keeps_its_beginning() -> None:
    words = build_vocabulary(["one two three four five"])
    tokenizer = WordPiece(words, 5)
    with pytest.warns(UserWarning, match="were cut"):
        rows = tokenizer(["One two three four five", "two", ""])
    said = [[words[i] for i in row] for row in rows]
    assert said == [
        ["[CLS]", "one", "two", "three", "[SEP]"],
        ["[CLS]", "two", "[SEP]", "[PAD]", "[PAD]"],
        ["[CLS]", "[SEP]", "[PAD]", "[PAD]", "[PAD]"],
    ]


def test_small_vocabulary_has_the_most_frequent_words() -> None:
    captions = ["sea"] * 5 + ["tree"] * 3 + ["boat"] * 4 + ["house"]
    everything = build_vocabulary(captions)
    assert everything[-4:] == ["sea", "boat", "tree", "house"]
    assert build_vocabulary(captions, len(everything) - 2)[-2:] == ["sea", "boat"]


def test_dropped_class_is_the_row_behind_all_classes() -> None:
    classes = ClassConditioner(3, 8, pooled=True)
    dropped = torch.tensor([True, False, True, False])
    given = classes(classes.drop(torch.tensor([0, 1, 2, 2]), dropped))
    rows = classes.embedding.weight[torch.tensor([3, 1, 3, 2])]
    assert classes.embedding.weight.shape == (4, 8)
    assert given.tokens is not None and torch.equal(given.tokens[:, 0], rows)
    assert given.vector is not None and torch.equal(given.vector, rows)


def test_dropped_mask_has_no_label_and_dropped_caption_no_word() -> None:
    dropped = torch.tensor([False, True])
    masks = MaskConditioner(5, 4, map_channels=None)
    maps = masks(masks.drop(torch.zeros(2, 16, 16, dtype=torch.long), dropped)).maps
    assert maps is not None and not maps[1].any()
    assert torch.equal(maps[0], torch.tensor([1.0, 0, 0, 0, 0])[:, None, None].expand(5, 4, 4))
    text = TextConditioner(VOCABULARY, 12, 8, 1, 2, 4)
    said = text.drop(text.tokenizer(["a tree", "a red boat"]), dropped)
    assert torch.equal(said, text.tokenizer(["a tree", ""]))


def test_pooled_caption_is_the_mean_of_its_own_tokens() -> None:
    text = TextConditioner(VOCABULARY, 12, 8, 1, 2, 4, pooled=True)
    given = text(text.tokenizer(["a red house", ""]))
    assert given.tokens is not None and given.vector is not None
    # Three words between [CLS] and [SEP], and these two alone.
    torch.testing.assert_close(given.vector[0], given.tokens[0, :5].mean(0))
    torch.testing.assert_close(given.vector[1], given.tokens[1, :2].mean(0))
