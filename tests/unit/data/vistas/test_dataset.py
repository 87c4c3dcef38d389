"""The vistas as a data set: records, splits and the user's mistakes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.utils.data import DataLoader

from ldmlab.data.vistas.caption import captions
from ldmlab.data.vistas.dataset import SPLITS, Vistas
from ldmlab.data.vistas.materials import MASK_LABELS


def test_vistas_batch_agrees_with_its_scenes() -> None:
    data = Vistas("train", 100, image_size=32)
    batch = data.__getitems__([5, 2, 99])
    assert batch.image is not None and batch.mask is not None and batch.label is not None
    assert batch.image.shape == (3, 3, 32, 32) and batch.image.dtype == torch.float32
    assert -1 <= batch.image.min() < batch.image.max() <= 1
    assert batch.mask.shape == (3, 32, 32) and batch.mask.max() < len(MASK_LABELS) == 12
    assert batch.index.tolist() == [5, 2, 99]
    scenes = data.scenes([5, 2, 99])
    assert batch.caption == captions(scenes)
    assert batch.label.tolist() == scenes.label.tolist()
    named = [data.classes[label] for label in batch.label]
    assert all(
        (name.split()[0] in caption) or name.startswith("nothing")
        for name, caption in zip(named, batch.caption, strict=True)
    )


def test_vistas_items_do_not_depend_on_batch_or_worker() -> None:
    data = Vistas("test", 8)
    alone = torch.cat([data[i].image for i in range(8)])  # type: ignore[misc]
    together = data.__getitems__(list(range(8))).image
    loader = DataLoader(data, batch_size=4, num_workers=1, collate_fn=lambda batch: batch)
    loaded = torch.cat([batch.image for batch in loader])
    assert torch.equal(alone, together)
    assert torch.equal(alone, loaded)


def test_vistas_splits_are_disjoint_and_hold_out_compositions() -> None:
    spans = sorted((span.start, span.stop) for span in SPLITS.values())
    assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))
    for split in SPLITS:
        held_out = Vistas(split, 2_000).scenes(range(2_000)).held_out
        assert held_out.all() if split == "compositions" else not held_out.any()


def test_vistas_seed_changes_the_images() -> None:
    one, two = (Vistas("train", 50, seed=seed).__getitems__(range(50)) for seed in (0, 1))
    assert one.caption != two.caption


def test_vistas_index_outside_is_refused() -> None:
    with pytest.raises(IndexError):
        Vistas("train", 10)[10]
    with pytest.raises(IndexError):
        Vistas("train", 10)[-1]
