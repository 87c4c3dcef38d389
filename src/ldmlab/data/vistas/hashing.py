"""Random numbers as a function of position: no state, so every process draws the same world."""

import numpy as np
from jaxtyping import Float, Int, UInt64
from numpy import ndarray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def _mix(value: UInt64[ndarray, "*shape"]) -> UInt64[ndarray, "*shape"]:
    """One round of splitmix64: a bijection of 64 bits that looks random."""
    value = value + _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    mixed: ndarray = value ^ (value >> np.uint64(31))
    return mixed


def uniforms(
    seed: int, indices: Int[ndarray, " n"], count: int, stream: int = 0
) -> Float[ndarray, "n count"]:
    """Numbers in [0, 1) that depend on `(seed, stream, index, column)` only.

    Args:
        seed: Seed of the world; any integer, taken modulo 2^64.
        indices: Index of each image.
        count: How many numbers each image gets.
        stream: Which independent family of numbers to draw.

    Returns:
        One row per index, in float64 with 53 random bits.
    """
    root = _mix(_mix(np.array([seed % 2**64], np.uint64)) ^ np.uint64(stream))
    rows = _mix(root ^ indices.astype(np.int64).view(np.uint64))[:, None]
    bits = _mix(rows + np.arange(count, dtype=np.uint64) * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
