"""Batches as wholes: joined, measured, cut."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from ldmlab.core.records import Batch, LatentMoments, TextStates


def _full(start: int, count: int, tokens: int) -> Batch:
    """A batch with every field there is, each row's numbers its own."""
    index = torch.arange(start, start + count)
    rows = index.float()
    states = rows[:, None, None].expand(count, tokens, 2).contiguous()
    return Batch(
        index=index,
        image=rows[:, None, None, None].expand(count, 3, 4, 4).contiguous(),
        label=index * 2,
        mask=index[:, None, None].expand(count, 4, 4).contiguous(),
        caption=tuple(f"text {k}" for k in index.tolist()),
        latent=LatentMoments(rows.reshape(-1, 1, 1, 1), rows.reshape(-1, 1, 1, 1) + 0.5),
        text=TextStates(states, torch.full((count,), tokens)),
    )


def test_concatenate_joins_every_field() -> None:
    parts = [_full(0, 2, 3), _full(2, 1, 5)]
    whole = Batch.concatenate(parts)
    assert [f.name for f in fields(whole) if getattr(whole, f.name) is None] == []
    assert whole.index.tolist() == [0, 1, 2]
    assert whole.image is not None and whole.image[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert whole.label is not None and whole.label.tolist() == [0, 2, 4]
    assert whole.mask is not None and whole.mask[:, 1, 1].tolist() == [0, 1, 2]
    assert whole.caption == ("text 0", "text 1", "text 2")
    assert whole.latent is not None
    assert whole.latent.mean.flatten().tolist() == [0, 1, 2]
    assert whole.latent.std.flatten().tolist() == [0.5, 1.5, 2.5]
    # Shorter texts have zeros behind their last token.
    assert whole.text is not None
    assert whole.text.length.tolist() == [3, 3, 5]
    assert whole.text.states[:, :, 0].tolist() == [[0] * 5, [1, 1, 1, 0, 0], [2] * 5]


def test_fields_that_no_batch_has_stay_out_and_those_that_some_have_are_refused() -> None:
    bare = Batch(torch.arange(2))
    assert Batch.concatenate([bare, bare]).label is None
    for field in fields(Batch):
        if field.name != "index":
            one = replace(bare, **{field.name: getattr(_full(0, 2, 3), field.name)})
            with pytest.raises(ValueError, match="in all batches or in none"):
                Batch.concatenate([bare, one])


def test_batch_counts_the_bytes_of_every_tensor() -> None:
    # index, label: 8 each; image: 3 x 16 x 4; mask: 16 x 8; moments: 2 x 4; text: 5 x 2 x 4 + 8
    assert _full(0, 1, 5).nbytes == 8 + 8 + 192 + 128 + 8 + 48


def test_batch_rows_are_cut_from_every_field() -> None:
    batch = _full(0, 5, 3)
    for rows, want in ((slice(1, 3), [1, 2]), ([4, 0], [4, 0]), (slice(None, None, 2), [0, 2, 4])):
        part = batch[rows]
        assert len(part) == len(want) and part.index.tolist() == want
        assert part.image is not None and part.image[:, 0, 0, 0].tolist() == want
        assert part.label is not None and part.label.tolist() == [2 * k for k in want]
        assert part.caption == tuple(f"text {k}" for k in want)
        assert part.latent is not None and part.latent.mean.flatten().tolist() == want
        assert part.latent.std.flatten().tolist() == [k + 0.5 for k in want]
        assert part.text is not None and part.text.states[:, 0, 0].tolist() == want
    shared = batch[1:3].image
    assert shared is not None and batch.image is not None
    assert shared.data_ptr() == batch.image[1].data_ptr()


def test_batch_moves_every_tensor() -> None:
    moved = _full(0, 2, 3).to("meta")
    assert moved.latent is not None and moved.text is not None and moved.image is not None
    tensors = (moved.index, moved.image, moved.label, moved.mask, moved.latent.std)
    assert all(t is not None and t.is_meta for t in (*tensors, moved.text.states))
    assert moved.caption == ("text 0", "text 1")


def test_latents_without_spread_have_deviations_of_zero() -> None:
    mean = torch.ones(2, 3, 1, 1)
    moments = LatentMoments.without_spread(mean)
    assert moments.mean is mean and torch.equal(moments.std, torch.zeros_like(mean))
