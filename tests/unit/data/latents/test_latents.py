"""Latents on disk give back what was written, or say why not."""

from __future__ import annotations

import json
import pickle
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader

from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch, LatentMoments, TextStates
from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.images.source import Sample
from ldmlab.data.images.transform import Transform
from ldmlab.data.latents.dataset import LatentCache
from ldmlab.data.latents.format import Manifest, shard_path
from ldmlab.data.latents.variants import Variants
from ldmlab.data.latents.writer import LatentWriter
from ldmlab.data.sampling.datasets import BatchDataset, with_latents
from ldmlab.data.sampling.step_batches import SeededIndex, StepBatches

Encode = Callable[[Tensor], LatentMoments]
TEXTS = ("", "a red house", "🏔 море\0\n", "a half \ud83d", "the sea, on the left")


def pooled(image: Tensor) -> LatentMoments:
    """Half the size, with a deviation that depends on the image."""
    mean = torch.nn.functional.avg_pool2d(image, 2)
    return LatentMoments(mean, mean.abs() * 0.1 + 1e-3)


class Small:
    """Eleven images with every condition."""

    def __len__(self) -> int:
        return 11

    def __getitems__(self, indices: list[int]) -> Batch:
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(11, 3, 8, 8, generator=generator) * 2 - 1
        mask = torch.randint(0, 256, (11, 8, 8), generator=generator)
        index = torch.tensor(indices)
        caption = self.captions(indices)
        return Batch(index, image[index], index % 4, mask[index], caption)

    def captions(self, indices: list[int]) -> tuple[str, ...]:
        return tuple(TEXTS[i % len(TEXTS)] for i in indices)


def manifest(data: BatchDataset, **changed: object) -> Manifest:
    plain = Manifest(
        codec="c0dec",
        normalization={},
        preprocessing={"data.train.image_size": 8, "data.limit": 1},
        samples="a",
        num_samples=len(data),
        latent_shape=(3, 4, 4),
        variants=Variants(),
        dtype="fp16",
        shard_size=4,
    )
    return replace(plain, **changed)  # type: ignore[arg-type]


def write(folder: Path, data: BatchDataset, encode: Encode = pooled, **changed: object) -> Manifest:
    """Write every shard that is missing."""
    folder.mkdir(exist_ok=True)
    writer = LatentWriter(folder, manifest(data, **changed))
    for shard in writer.missing():
        batches = (data.__getitems__(visits) for visits in writer.batches(shard, 3))
        writer.write(shard, (with_latents(batch, encode) for batch in batches))
    finished = writer.finish()
    assert finished is not None
    return finished


def assert_same(cached: Batch, exact: Batch, tolerance: float = 5e-4) -> None:
    assert cached.latent is not None and exact.latent is not None
    for got, wanted in zip(
        (cached.latent.mean, cached.latent.std), (exact.latent.mean, exact.latent.std), strict=True
    ):
        torch.testing.assert_close(got.float().expand_as(wanted), wanted, rtol=tolerance, atol=1e-6)
    assert cached.index.equal(exact.index) and cached.caption == exact.caption
    for name in ("label", "mask"):
        got, wanted = getattr(cached, name), getattr(exact, name)
        assert (got is None) == (wanted is None)
        assert got is None or (got.dtype == wanted.dtype and got.equal(wanted))


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp16", 5e-4), ("bf16", 4e-3)])
def test_latent_cache_round_trips(tmp_path: Path, dtype: str, tolerance: float) -> None:
    data = Small()
    written = write(tmp_path, data, dtype=dtype)
    cache = LatentCache(tmp_path)
    assert len(cache) == 11 and written.num_shards == 3
    rows = [10, 0, 3, 4, 4, 7, 1]
    exact = with_latents(data.__getitems__(rows), pooled)
    cached = cache.__getitems__(rows)
    assert_same(cached, exact, tolerance)
    assert cache.captions(rows) == exact.caption
    assert_same(cache[9], with_latents(data.__getitems__([9]), pooled), tolerance)
    # The stated error is that of what is read.
    every = with_latents(data.__getitems__(list(range(11))), pooled)
    got = cache.__getitems__(list(range(11)))
    assert every.latent is not None and got.latent is not None
    for name in ("mean", "std"):
        exact_part, read = getattr(every.latent, name).double(), getattr(got.latent, name).double()
        stated = written.error[name]
        assert stated["largest"] == pytest.approx(float((read - exact_part).abs().max()))
        relative = float((read - exact_part).norm() / exact_part.norm())
        assert stated["relative"] == pytest.approx(relative)
        assert 0 < stated["relative"] < tolerance
    assert Manifest.read(tmp_path) == written


def test_latent_cache_shares_text_states_of_equal_captions(tmp_path: Path) -> None:
    lengths, said = [3, 0, 2], ["one", "", "two"]
    states = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))

    def batch(visits: list[int]) -> Batch:
        rows = [2 * int(v) + (v.seed & 1 if isinstance(v, SeededIndex) else 0) for v in visits]
        length = torch.tensor([lengths[r // 2] for r in rows])
        kept = torch.arange(5) < length[:, None]
        # The mirror images of the last sample say something else.
        captions = tuple("other" if r == 5 else said[r // 2] for r in rows)
        # Views of one caption have one text.
        shown = states[[r if r == 5 else r // 2 * 2 for r in rows]] * kept[..., None]
        mean = torch.zeros(len(rows), 3, 4, 4)
        moments = LatentMoments(mean, mean)
        return Batch(
            torch.tensor(visits), caption=captions, latent=moments, text=TextStates(shown, length)
        )

    shape = {"variants": Variants(flips=True), "num_samples": 3, "shard_size": 2}
    writer = LatentWriter(tmp_path, manifest(Small(), **shape, text={"conditioner.encoder": "e"}))
    for shard in writer.missing():
        writer.write(shard, map(batch, writer.batches(shard, 3)))
    written = writer.finish()
    assert written is not None and 0 < written.error["text"]["relative"] < 5e-4
    # Three tokens of "one" once, and two of "two" and of "other" each.
    assert len(load_file(tmp_path / "00000.safetensors")["text"]) == 3
    assert len(load_file(tmp_path / "00001.safetensors")["text"]) == 4
    visits = [SeededIndex(index, mirror) for index in (2, 0, 1) for mirror in (1, 0)]
    cached, exact = LatentCache(tmp_path).__getitems__(visits), batch(visits)
    assert cached.text is not None and exact.text is not None
    assert cached.text.states.shape == (6, 3, 8)  # no longer than the longest
    assert torch.equal(cached.text.length, exact.text.length)
    torch.testing.assert_close(
        cached.text.states.float(), exact.text.states[:, :3], rtol=5e-4, atol=1e-6
    )
    assert LatentCache(tmp_path)[1].text.states.shape == (1, 0, 8)


def test_latent_shard_is_plain_safetensors(tmp_path: Path) -> None:
    data = Small()
    write(tmp_path, data)
    shard = load_file(tmp_path / "00001.safetensors")
    exact = with_latents(data.__getitems__([4, 5, 6, 7]), pooled)
    assert exact.latent is not None
    assert shard["latent"].shape == (4, 1, 2, 3, 4, 4)
    torch.testing.assert_close(
        torch.from_numpy(shard["latent"][:, 0, 1]).float(), exact.latent.std, rtol=5e-4, atol=0
    )
    start, end = int(shard["caption_ends"][0, 0]), int(shard["caption_ends"][1, 0])
    assert shard["caption"][start:end].tobytes().decode() == TEXTS[0]


def test_latent_cache_stores_no_zero_std(tmp_path: Path) -> None:
    def flat(image: Tensor) -> LatentMoments:
        return LatentMoments(image[..., ::2, ::2], torch.zeros_like(image[..., ::2, ::2]))

    written = write(tmp_path, Small(), flat)
    assert load_file(tmp_path / "00000.safetensors")["latent"].shape[2] == 1
    assert_same(LatentCache(tmp_path)[5], with_latents(Small().__getitems__([5]), flat))
    assert written.error["std"] == {"largest": 0.0, "relative": 0.0}


def test_latent_cache_reads_the_same_in_worker_processes(tmp_path: Path) -> None:
    write(tmp_path, Small())
    cache = LatentCache(tmp_path)
    again = pickle.loads(pickle.dumps(cache))
    order = [batch for batch, _ in zip(StepBatches(11, 4, 1), range(6), strict=False)]
    loader = DataLoader(cache, batch_sampler=order, num_workers=2, collate_fn=lambda batch: batch)
    for batch, indices in zip(loader, order, strict=True):
        exact = with_latents(Small().__getitems__([int(i) for i in indices]), pooled)
        assert_same(batch, exact)
        assert_same(again.__getitems__(indices), exact)


def test_latent_writer_rewrites_only_missing_or_damaged_shards(tmp_path: Path) -> None:
    data = Small()
    write(tmp_path, data)
    whole = {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    kept = shard_path(tmp_path, 2).stat().st_mtime_ns
    shard_path(tmp_path, 0).unlink()
    with pytest.raises(UserError, match=r"1 of the 3 files .* 00000\.safetensors first"):
        LatentCache(tmp_path)
    with pytest.raises(IndexError):
        LatentWriter(tmp_path, manifest(data)).batches(3, 4)[0]
    damaged = shard_path(tmp_path, 1)
    damaged.write_bytes(damaged.read_bytes()[:-7])
    assert LatentWriter(tmp_path, manifest(data)).missing() == [0, 1]
    assert LatentWriter(tmp_path, manifest(data)).finish() is None
    write(tmp_path, data)
    assert whole == {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    assert shard_path(tmp_path, 2).stat().st_mtime_ns == kept
    assert len(LatentCache(tmp_path)) == 11


@pytest.mark.parametrize("spoil", ["truncate", "empty", "text", "foreign"])
def test_damaged_latent_shard_is_named(tmp_path: Path, spoil: str) -> None:
    write(tmp_path, Small())
    path = shard_path(tmp_path, 1)
    if spoil == "foreign":
        other = tmp_path / "other"
        write(other, Small(), codec="another")
        path.write_bytes(shard_path(other, 1).read_bytes())
    else:
        content = {"truncate": path.read_bytes()[:300], "empty": b"", "text": b"<html>" * 9}
        path.write_bytes(content[spoil])
    with pytest.raises(UserError, match=r"00001\.safetensors .*`ldmlab encode` again") as refused:
        LatentCache(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("latent", None, "has no latent"),
        ("latent", torch.zeros(4, 1, 2, 3, 4, 5, dtype=torch.float16), "its latent is"),
        ("latent", torch.zeros(4, 1, 2, 3, 4, 4), "its latent is torch.float32"),
        ("latent", torch.zeros(4, 1, 3, 3, 4, 4, dtype=torch.float16), "neither a mean nor"),
        ("label", torch.zeros(3, dtype=torch.int64), "its label is"),
        ("caption_ends", None, "has no caption_ends"),
        ("mask", None, "and the first"),
    ],
)
def test_latent_shard_of_other_tensors_is_named(
    tmp_path: Path, name: str, value: Tensor | None, said: str
) -> None:
    write(tmp_path, Small())
    path = shard_path(tmp_path, 1)
    with safe_open(path, "pt") as file:
        told = file.metadata()
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    tensors = {k: v for k, v in (tensors | {name: value}).items() if v is not None}
    save_file(tensors, path, told)
    with pytest.raises(UserError, match=r"00001\.safetensors .*`ldmlab encode` again") as refused:
        LatentCache(tmp_path)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_samples", 0), ("num_samples", 1.5), ("shard_size", 0), ("latent_shape", [3, 4]),
     ("dtype", "fp8"), ("variants", {"crops": -1, "flips": False}), ("normalization", [])],
)  # fmt: skip
def test_manifest_value_out_of_range_is_named(tmp_path: Path, key: str, value: object) -> None:
    write(tmp_path, Small())
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=rf"manifest\.json is damaged \({key}"):
        LatentCache(tmp_path)


def test_missing_or_damaged_latent_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.json"):
        LatentCache(tmp_path / "nowhere")
    write(tmp_path, Small())
    path = tmp_path / "manifest.json"
    for content in ("", "[]", "{}", '{"format": 2, "codec": 3}'):
        path.write_text(content)
        with pytest.raises(UserError, match=r"manifest\.json is damaged"):
            LatentCache(tmp_path)
    path.write_text('{"format": 99}')
    with pytest.raises(UserError, match="format 99"):
        LatentCache(tmp_path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"codec": "other"}, "the codec c0dec, not other"),
        ({"samples": "b"}, "a list of samples a, not b"),
        ({"num_samples": 12}, "a number of samples of 11, not 12"),
        (
            {"variants": Variants(2, True)},
            "the centre, not mirrored, not 2 random crops, mirrored too",
        ),
        ({"dtype": "bf16"}, "dtype fp16, not bf16"),
        (
            {"preprocessing": {"data.train.image_size": 16}, "latent_shape": (3, 8, 8)},
            r"data\.limit=1, not None",
        ),
    ],
)
def test_latents_of_another_origin_are_refused(
    tmp_path: Path, changed: dict[str, object], words: str
) -> None:
    before = write(tmp_path, Small())
    with pytest.raises(UserError, match=words):
        LatentWriter(tmp_path, replace(before, **changed))  # type: ignore[arg-type]
    assert Manifest.read(tmp_path) == before


def test_latents_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    def large(image: Tensor) -> LatentMoments:
        return LatentMoments(image[..., ::2, ::2] * 1e5, image[..., ::2, ::2] * 0)

    def broken(image: Tensor) -> LatentMoments:
        return LatentMoments(image[..., ::2, ::2] / 0.0 * 0.0, image[..., ::2, ::2])

    with pytest.raises(UserError, match="which fp16 cannot hold: set dtype=bf16"):
        write(tmp_path, Small(), large)
    with pytest.raises(UserError, match="sample 0 are not finite"):
        write(tmp_path / "broken", Small(), broken)
    assert not list(tmp_path.rglob("*.safetensors"))
    write(tmp_path / "wide", Small(), large, dtype="bf16")


def test_latent_writer_reports_a_full_disk_and_leaves_no_partial_file(tmp_path: Path) -> None:
    writer = LatentWriter(tmp_path, manifest(Small()))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        batches = [Small().__getitems__(visits) for visits in writer.batches(0, 3)]
        with pytest.raises(UserError, match=r"cannot be written \(File too large") as refused:
            writer.write(0, [with_latents(batch, pooled) for batch in batches])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    write(tmp_path, Small())
    assert len(LatentCache(tmp_path)) == 11


class Gradients:
    """Seven wide images with captions, as they lie on disk."""

    classes = ()

    def __init__(self, folder: Path) -> None:
        from PIL import Image

        self.files = []
        for k in range(7):
            pixels = torch.randint(
                0, 256, (16, 40, 3), generator=torch.Generator().manual_seed(k)
            ).to(torch.uint8)
            self.files.append(folder / f"{k}.png")
            Image.fromarray(pixels.numpy()).save(self.files[-1])

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        return str(self.files[index])

    def read(self, index: int) -> Sample:
        return Sample(self.files[index].read_bytes(), index, None, self.caption(index))

    def caption(self, index: int) -> str:
        return "a house on the left" if index % 3 == 0 else "a house"


def visits(count: int) -> list[int]:
    return [visit for batch, _ in zip(StepBatches(7, 5, 3), range(count), strict=False)
            for visit in batch]  # fmt: skip


@pytest.mark.parametrize("captions", ["keep", "swap"])
def test_latent_cache_flips_as_without_a_cache(tmp_path: Path, captions: str) -> None:
    data = ImageDataset(Gradients(tmp_path), Transform(8, flip=True, flip_captions=captions))
    folder = tmp_path / "latents"
    write(folder, data, variants=Variants(flips=True))
    cache = LatentCache(folder)
    exact = with_latents(data.__getitems__(visits(8)), pooled)
    assert_same(cache.__getitems__(visits(8)), exact)
    mirrored = [visit.seed & 1 for visit in visits(8) if isinstance(visit, SeededIndex)]
    assert 0.2 < sum(mirrored) / len(mirrored) < 0.8
    # A plain position sees the image as it is.
    assert_same(cache[4], with_latents(data[4], pooled))
    assert cache[0].caption == ("a house on the left",)


@pytest.mark.parametrize("flips", [False, True])
def test_cached_random_crops_are_those_of_training(tmp_path: Path, flips: bool) -> None:
    data = ImageDataset(Gradients(tmp_path), Transform(8, resized=16, crop="random", flip=flips))
    folder = tmp_path / "latents"
    variants = Variants(crops=3, flips=flips)
    write(folder, data, variants=variants)
    cache = LatentCache(folder)
    kept = with_latents(data.__getitems__(variants.visits(5)), pooled)
    assert kept.latent is not None and len(kept) == len(variants) == 3 * (1 + flips)
    assert len(kept.latent.mean.flatten(1).unique(dim=0)) == len(variants)
    seen = set()
    for seed in range(60):
        row = variants.choose(SeededIndex(5, seed))
        seen.add(row)
        latent = cache.__getitems__([SeededIndex(5, seed)]).latent
        assert latent is not None
        torch.testing.assert_close(
            latent.mean[0].float(), kept.latent.mean[row], rtol=5e-4, atol=1e-6
        )
    assert seen == set(range(len(variants)))
