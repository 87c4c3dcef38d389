"""Damaged tar archives are told of, and what is read of them lies within them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import strategies as st
from tests.fuzz.harness import SPENDS, fuzz
from tests.fuzz.mutate import json_values, mutated

from ldmlab.core.errors import UserError
from ldmlab.data.shards.index import read_shard
from ldmlab.data.shards.tar import Archives, members

KINDS = (tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE)


def archive(names: list[str], form: int, body: bytes = b'{"caption": "sea", "width": 3}') -> bytes:
    """A tar file in one of tar's formats."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    return file.getvalue()


def specimens() -> list[bytes]:
    """Shards in each format, with short and long names."""
    short = [f"{k:09d}.{kind}" for k in range(3) for kind in ("jpg", "json", "txt")]
    forms = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    made = [archive(short, form) for form in forms]
    return [*made, *(archive([*short, "é" * 120 + ".jpg"], form) for form in forms[1:])]


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """Archives of odd entries whose headers' sums are right."""
    data = b""
    for _ in range(draw(st.integers(0, 5))):
        name = draw(st.sampled_from(("../../e.jpg", "/etc/a.json", "0.jpg", "", "0.json")))
        entry = tarfile.TarInfo(draw(st.just(name) | st.text(max_size=20)).replace("\0", ""))
        entry.type = draw(st.sampled_from(KINDS) | st.sampled_from((b"L", b"x", b"g", b"S", b"K")))
        entry.linkname = draw(st.sampled_from(("0.jpg", "../..", "", "0.json")))
        body = draw(
            st.binary(max_size=40)
            | json_values().map(lambda value: repr(value).encode("utf-8", "replace"))
            | st.sampled_from((b"12 path=a.jpg", b"-5 path=abcdefgh", b"0 a=b", b"9" * 30 + b" a="))
        )
        entry.size = draw(st.just(len(body)) | st.integers(0, 2**40))
        try:
            block = entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        except (ValueError, UnicodeError):
            continue
        data += block + body + b"\0" * (-len(body) % 512)
    return data + b"\0" * draw(st.sampled_from((0, 512, 1024, 10240)))


def reader(path: Path):
    def read(data: bytes) -> None:
        path.write_bytes(data)
        archives = Archives([path])
        with path.open("rb") as file:
            shard = read_shard(file, path.name)
        for row in shard.rows:
            for kind in ("image", "text", "json"):
                archives.read(0, int(row[kind]), int(row[f"{kind}_size"]))
        for member in members(path):
            assert 0 < member.offset <= len(data) - member.size

    return read


@pytest.mark.parametrize("spend", SPENDS)
def test_damaged_archive_is_read_as_far_as_it_goes(tmp_path: Path, spend: float) -> None:
    fuzz(reader(tmp_path / "0.tar"), mutated(specimens()) | written(), (UserError,), 40, spend)
