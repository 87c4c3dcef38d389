"""Values of files in [-1, 1] and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldmlab.core.pixel_values import PixelValues


@pytest.mark.parametrize(("bits", "full"), [(8, 255), (16, 65535)])
def test_every_whole_number_survives(bits: int, full: int) -> None:
    every = torch.arange(full + 1, dtype=torch.float32).reshape(1, 1, -1)
    values = PixelValues(bits)  # type: ignore[arg-type]
    unit = values.to_unit(every, full)
    assert unit.dtype == torch.float32 and [unit.min(), unit.max()] == [-1, 1]
    assert np.array_equal(values.from_unit(unit), every.numpy())


def test_range_is_undone_and_what_lies_outside_is_clipped() -> None:
    values = PixelValues("float", ((-160.0, 240.0),))
    stored = torch.tensor([[[-1000.0, -160.0, 40.0, 240.0, 3000.0]]])
    unit = values.to_unit(stored, None)
    assert unit.flatten().tolist() == [-1, -1, 0, 1, 1]
    assert values.from_unit(unit).flatten().tolist() == [-160, -160, 40, 240, 240]
    assert values.clips(stored) and not values.clips(stored[..., 1:4])


def test_each_channel_has_its_own_range() -> None:
    values = PixelValues(16, ((0, 10), (100, 300)))
    unit = values.to_unit(torch.tensor([[[5.0]], [[300.0]]]), None)
    assert unit.flatten().tolist() == [0, 1]
    assert values.from_unit(torch.tensor([[[-1.0]], [[-1.0]]])).flatten().tolist() == [0, 100]
    with pytest.raises(ValueError, match="3 channels"):
        values.to_unit(torch.zeros(3, 1, 1), None)


def test_range_beyond_the_bits_is_refused_with_the_mend() -> None:
    with pytest.raises(ValueError, match=r"data\.bits=float"):
        PixelValues(16, ((-1, 10),))
    with pytest.raises(ValueError, match="0 to 255"):
        PixelValues(8, ((0, 256),))
    with pytest.raises(ValueError, match=r"data\.value_range"):
        PixelValues("float").to_unit(torch.zeros(1, 1, 1), None)
