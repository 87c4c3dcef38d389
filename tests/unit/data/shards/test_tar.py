"""Archives whose headers lie: refused by name, never followed."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from ldmlab.core.errors import UserError
from ldmlab.data.shards.tar import BLOCK, members


def header(size: bytes | None = None, kind: bytes = b"0", data: bytes = b"") -> bytes:
    """A member whose header has a right checksum, whatever it says."""
    entry = tarfile.TarInfo("a.jpg")
    entry.size = len(data)
    block = bytearray(entry.tobuf(tarfile.USTAR_FORMAT))
    block[156:157] = kind
    block[124:136] = block[124:136] if size is None else size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data + b"\0" * (-len(data) % BLOCK)


def negative(size: int) -> bytes:
    return size.to_bytes(12, "big", signed=True)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "archive",
    [
        header(negative(-1)),
        header(negative(-BLOCK)),
        header() + header(negative(-2 * BLOCK)),
        *(
            header(kind=b"x", data=record) + header(data=b"pixels")
            for record in (b"0 path=x\n", b"zz path\n", b"12345", b"-5 path=x\n", b"-9 a=bbb\n")
        ),
    ],
)
def test_wrong_tar_header_is_named_and_ends_the_archive(tmp_path: Path, archive: bytes) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(archive + b"\0" * 2 * BLOCK)
    with pytest.raises(UserError, match=r"0\.tar is no uncompressed tar archive at byte"):
        list(members(path))


def test_tar_member_larger_than_the_archive_is_a_truncation(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(header(b"\x80" + (2**80).to_bytes(11, "big")) + b"\0" * BLOCK)
    with pytest.raises(UserError, match=r"0\.tar is (cut short|no uncompressed tar)"):
        list(members(path))


def test_odd_member_name_is_told_in_one_line(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("a\n.jpg")
    entry.size = 5 * BLOCK
    (tmp_path / "0.tar").write_bytes(entry.tobuf(tarfile.USTAR_FORMAT) + bytes(BLOCK))
    with pytest.raises(UserError, match=r"cut short within a\\n\.jpg") as refused:
        list(members(tmp_path / "0.tar"))
    assert "\n" not in str(refused.value)
