"""Damaged checkpoints, weights and latents are refused in one line, or read as what they hold."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save
from tests.fuzz.harness import SPENDS, fuzz
from tests.fuzz.mutate import json_values, mutated

from ldmlab.core.checkpoint_file import read_checkpoint, write_checkpoint
from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch, LatentMoments
from ldmlab.data.latents.dataset import LatentCache
from ldmlab.data.latents.format import Manifest, shard_path
from ldmlab.data.latents.variants import Variants
from ldmlab.data.latents.writer import LatentWriter
from ldmlab.interop.common.read_foreign import read_tensors

NUMBERS = st.sampled_from((-1, 0, 1, 2, 3, 12, 2**31, 2**40, 2**63, 2**64))


def checkpoint(path: Path) -> bytes:
    """A small checkpoint with every kind of value that a run stores."""
    state = OrderedDict(a=torch.ones(3, 2), b=torch.arange(4), c=torch.zeros(2).bfloat16())
    extra = {"steps": 3, "rate": 0.5, "names": ["x", None], "seed": b"\1\2", "pair": (1, 2)}
    write_checkpoint({"state_dict": state, "metadata": extra, "x": {1: True}}, path)
    return path.read_bytes()


def repacked(whole: bytes, member: str, content: bytes) -> bytes:
    """An archive of torch with another content of one member, its sums right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = content if name.endswith(member) else old.read(name)
            new.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def pickled(whole: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        return archive.read(name)


class Harmful:
    """What a pickle could make a careless reader do."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("spend", SPENDS)
def test_damaged_checkpoint_is_read_or_refused(tmp_path: Path, spend: float) -> None:
    path = tmp_path / "last.ckpt"
    whole = checkpoint(path)
    inner = pickled(whole)
    harm = pickle.dumps({"state_dict": Harmful(str(tmp_path / "harmed"))}, protocol=2)
    plain = [pickle.dumps(value, protocol=2) for value in ([1], "text", 7, {})]
    inputs = (
        mutated([whole, harm])
        | mutated([inner, inner, harm, *plain]).map(lambda x: repacked(whole, "data.pkl", x))
        | st.binary(max_size=48).map(lambda x: repacked(whole, "data/0", x))
    )

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            found = read_checkpoint(path)
            assert isinstance(found, dict)
        finally:
            assert not (tmp_path / "harmed").exists()

    fuzz(read, inputs, (UserError,), 60, spend)


@st.composite
def headers(draw: st.DrawFn, whole: bytes) -> bytes:
    """A safetensors file whose header says something else, its length right."""
    size = struct.unpack("<Q", whole[:8])[0]
    told, body = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(told)))
        entry = told[name]
        how = draw(st.integers(0, 4))
        if how == 0:
            told[name] = draw(json_values(4))
        elif how == 1 and isinstance(entry, dict) and "shape" in entry:
            entry["shape"] = draw(st.permutations(entry["shape"]) | st.lists(NUMBERS, max_size=6))
        elif how == 2 and isinstance(entry, dict) and "dtype" in entry:
            entry["dtype"] = draw(st.sampled_from(("F16", "BF16", "I16", "U8", "F64", "F8_E4M3")))
        elif how == 3 and isinstance(entry, dict) and "data_offsets" in entry:
            entry["data_offsets"] = draw(st.lists(NUMBERS, min_size=2, max_size=2))
        elif how == 4 and len(told) > 1:
            value = told.pop(name)
            if draw(st.booleans()):
                told[draw(st.sampled_from(("mask", "text", "caption", "x")))] = value
    text = json.dumps(told).encode("utf-8", "replace")
    length = draw(st.just(len(text)) | NUMBERS.filter(lambda n: 0 <= n < 2**64))
    return struct.pack("<Q", length) + text + body


@pytest.mark.parametrize("spend", SPENDS)
def test_damaged_weights_are_read_or_refused(tmp_path: Path, spend: float) -> None:
    path = tmp_path / "model.safetensors"
    whole = save({"a": torch.ones(3, 2), "b": torch.arange(4)}, {"format": "pt"})

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for tensor in read_tensors(path).values():
            tensor.clone()

    fuzz(read, mutated([whole]) | headers(whole), (UserError,), 60, spend)


def latents(folder: Path) -> Path:
    """A cache of five latents with every condition, in two files."""
    folder.mkdir()
    told = Manifest("c", {}, {}, "s", 5, (3, 2, 2), Variants(), "fp16", 3)
    writer = LatentWriter(folder, told)
    for shard in writer.missing():
        index = torch.tensor([int(i) for (i,) in writer.batches(shard, 1)])
        moments = LatentMoments(torch.ones(len(index), 3, 2, 2), torch.ones(len(index), 3, 2, 2))
        mask = torch.zeros(len(index), 4, 4, dtype=torch.int64)
        words = tuple(f"the sea {int(i)}" for i in index)
        writer.write(shard, [Batch(index, None, index, mask, words, latent=moments)])
    writer.finish()
    return folder


def read_cache(folder: Path) -> None:
    """What training reads of a cache."""
    cache = LatentCache(folder)
    batch = cache.__getitems__(list(range(len(cache))))
    assert batch.latent is not None and len(batch.latent.mean) == len(cache)
    cache.captions([0])


@pytest.mark.parametrize("spend", SPENDS)
def test_damaged_latents_are_read_or_refused(tmp_path: Path, spend: float) -> None:
    folder = latents(tmp_path / "train")
    path = shard_path(folder, 1)
    whole = path.read_bytes()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_cache(folder)

    fuzz(read, mutated([whole]) | headers(whole), (UserError,), 60, spend)


@st.composite
def manifests(draw: st.DrawFn, whole: bytes) -> bytes:
    """A manifest in which some values are others."""
    told = json.loads(whole)
    for key in draw(st.lists(st.sampled_from(sorted(told)), min_size=1, max_size=2)):
        told[key] = draw(json_values(4) | NUMBERS)
    return json.dumps(told).encode("utf-8", "replace")


@pytest.mark.parametrize("spend", SPENDS)
def test_damaged_manifest_is_read_or_refused(tmp_path: Path, spend: float) -> None:
    folder = latents(tmp_path / "train")
    path = folder / "manifest.json"
    whole = path.read_bytes()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_cache(folder)

    fuzz(read, mutated([whole]) | manifests(whole), (UserError,), 60, spend)
