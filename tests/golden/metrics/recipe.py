"""The inputs of the golden metric cases from their recipes.

Bits come from numpy's PCG64 stream (`random_raw`, which numpy promises to keep); everything
else is arithmetic written out here, so the same arrays come out of any numpy.
"""

import numpy as np


def raw(seed, n):
    return np.random.PCG64(seed).random_raw(n)


def uniform(seed, *shape):
    n = int(np.prod(shape))
    return ((raw(seed, n) >> np.uint64(11)) * 2.0**-53).reshape(shape)


def normal(seed, *shape):
    n = int(np.prod(shape))
    u = uniform(seed, 2, n)
    return (np.sqrt(-2 * np.log1p(-u[0])) * np.cos(2 * np.pi * u[1])).reshape(shape)


def integers(seed, high, *shape):
    n = int(np.prod(shape))
    return ((raw(seed, n) >> np.uint64(33)) % np.uint64(high)).astype(np.int64).reshape(shape)


def features(spec):
    """float32 [n, d]; the steps are applied in the order of this function."""
    n, d = spec["n"], spec["d"]
    z = normal(spec["seed"], n, d)
    z = z * (1.0 + np.arange(d)) ** -spec.get("decay", 0.0)
    if "mix" in spec:
        z = z @ (normal(spec["mix"], d, d) / np.sqrt(d))
    z = z * spec.get("scale", 1.0) + spec.get("shift", 0.0)
    if spec.get("relu"):
        z = np.maximum(z, 0)
    if "near" in spec:
        near = spec["near"]
        k = near["rows"]
        z[:k] = features(near["of"])[:k] + near["noise"] * normal(near["seed"], k, d)
    if spec.get("unit"):
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
    if "grid" in spec:
        z = np.floor(z * spec["grid"])
    if "rows" in spec:
        start, stop, step = spec["rows"]
        z = z[start:stop:step]
    return z.astype(np.float32)


def image(spec):
    """uint8 [h, w, 3]: a smooth field, a little noise, a checker in one quarter; integers only."""
    h, w, seed = spec["h"], spec["w"], spec["seed"]
    rows, cols = h // 8 + 2, w // 8 + 2
    coarse = integers(seed, 256, rows, cols, 3)
    y, x = np.arange(h)[:, None, None], np.arange(w)[None, :, None]
    i, j, f, g = y // 8, x // 8, y % 8, x % 8

    def at(a, b):
        return coarse[a[:, :, 0], b[:, :, 0]]

    smooth = (
        (8 - f) * (8 - g) * at(i, j)
        + f * (8 - g) * at(i + 1, j)
        + (8 - f) * g * at(i, j + 1)
        + f * g * at(i + 1, j + 1)
    ) // 64
    out = smooth + integers(seed + 1, 17, h, w, 3) - 8
    checker = 255 * ((y + x) % 2) * np.ones((1, 1, 3), np.int64)
    out = np.where((y >= h // 2) & (x >= w // 2), checker, out)
    return np.clip(out, 0, 255).astype(np.uint8)


def distorted(spec):
    """uint8 [h, w, 3]: an image after a change.

    `noise`: integers in [-a, a]; `roll`: pixels along x; `box`: 3 x 3 mean, edges repeated.
    """
    x = image(spec["of"]).astype(np.int64)
    if spec.get("roll"):
        x = np.roll(x, spec["roll"], axis=1)
    if spec.get("box"):
        p = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
        h, w = x.shape[:2]
        x = sum(p[a : a + h, b : b + w] for a in range(3) for b in range(3)) // 9
    if spec.get("noise"):
        a = spec["noise"]
        x = x + integers(spec["seed"], 2 * a + 1, *x.shape) - a
    return np.clip(x, 0, 255).astype(np.uint8)


def maps(spec):
    """(predicted, truth), int64 [b, h, w]: truth in blocks of 4 x 4.

    Predicted equals it with probability `agree`; truth is `ignore` with probability `void`.
    """
    b, h, w, labels, s = spec["b"], spec["h"], spec["w"], spec["labels"], spec["seed"]
    truth = integers(s, labels, b, h // 4, w // 4).repeat(4, 1).repeat(4, 2)
    if spec.get("absent"):  # labels that the truth never holds
        truth = truth % (labels - spec["absent"])
    guess = integers(s + 1, labels - spec.get("unseen", 0), b, h, w)
    predicted = np.where(uniform(s + 2, b, h, w) < spec["agree"], truth, guess)
    truth = np.where(
        uniform(s + 3, b, h, w) < spec.get("void", 0.0), spec.get("ignore", 255), truth
    )
    return predicted, truth


def trunk(spec):
    """A list of float32 [b, c, h, w]: what a trunk's layers might give."""
    return [
        np.maximum(normal(spec["seed"] + k, spec["b"], c, s, s), 0).astype(np.float32)
        for k, (c, s) in enumerate(zip(spec["channels"], spec["sizes"], strict=True))
    ]


def pixels(spec):
    """float32 [n]: values about [-1, 1], some outside, the first ones exact halves of bytes."""
    x = (uniform(spec["seed"], spec["n"]) * 2 - 1) * spec["reach"]
    k = spec["halves"]
    x[:k] = (integers(spec["seed"] + 1, 255, k) + 0.5) / 127.5 - 1
    return x.astype(np.float32)
