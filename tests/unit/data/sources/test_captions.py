"""Caption tables as other programs write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ldmlab.core.errors import UserError
from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.images.transform import Transform
from ldmlab.data.sampling.step_batches import SeededIndex
from ldmlab.data.sources.image_folder import ImageFolder
from ldmlab.data.specimens.scenes import scenes

ROWS = "".join(f'{k}.jpg,"a ""red"" boat, at sea {k}"\n' for k in range(3))
TEXTS = {f"{k}.jpg": f'a "red" boat, at sea {k}' for k in range(3)}
JSONL = "".join(json.dumps({"file_name": n, "text": t}) + "\n" for n, t in TEXTS.items())


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"an image")
    return root


def captions(root: Path, source: str, **options) -> dict[str, str]:
    found = {}
    for split in ("train", "validation"):
        data = ImageFolder(split, root, captions=source, **options)
        found |= {
            str(Path(data.name(i)).relative_to(root)): data.caption(i) for i in range(len(data))
        }
    return found


@pytest.mark.parametrize(
    "table",
    [
        "file_name,text\n" + ROWS,
        "\ufeffFile_Name, Text\n" + ROWS,
        "image,caption\n" + ROWS.replace("\n", "\r\n"),
        ("file,caption\n" + ROWS).replace("\n", "\r"),
        "file_name;text\n" + ROWS.replace("jpg,", "jpg;"),
        "path\ttext\n" + ROWS.replace("jpg,", "jpg\t"),
        "file_name,text\n" + "".join(f"./{row}\n" for row in ROWS.splitlines()),
        'file_name,text\n0.jpg,"a ""red"" boat,\n\nat sea 0"\n' + ROWS[ROWS.index("1.jpg") :],
    ],
)
def test_caption_tables_of_many_programs_are_read(tmp_path: Path, table: str) -> None:
    write(tmp_path, *TEXTS)
    (tmp_path / "c.csv").write_text(table, encoding="utf-8", newline="")
    assert captions(tmp_path, "c.csv") == TEXTS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_caption_table_with_a_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    # Windows' Notepad and Excel write "Unicode" so; \u0a0a holds two line ends as bytes.
    write(tmp_path, *TEXTS)
    mark = "" if encoding == "utf-16" else "\ufeff"
    texts = {name: text + " \u0a0a\u5317" for name, text in TEXTS.items()}
    table = "file_name,text\n" + ROWS.replace('"\n', ' \u0a0a\u5317"\n')
    (tmp_path / "c.csv").write_bytes((mark + table).encode(encoding))
    assert captions(tmp_path, "c.csv") == texts
    for name, text in texts.items():
        (tmp_path / name).with_suffix(".txt").write_bytes((mark + text).encode(encoding))
    assert captions(tmp_path, "txt") == texts


def test_caption_line_in_another_encoding_is_tolerated(tmp_path: Path) -> None:
    write(tmp_path, "0.jpg", "1.jpg")
    (tmp_path / "c.csv").write_bytes(b"file_name,text\n0.jpg,caf\xe9\n1.jpg,caf\xc3\xa9\n")
    assert captions(tmp_path, "c.csv") == {"0.jpg": "café", "1.jpg": "café"}


def test_lone_surrogate_in_a_caption_table_is_tolerated(tmp_path: Path) -> None:
    write(tmp_path, "0.jpg", "1.jpg")
    rows = '{"file_name": "0.jpg", "text": "x\\ud83d"}\n \n{"file_name": "1.jpg", "text": null}\n'
    (tmp_path / "c.jsonl").write_text(rows)
    assert captions(tmp_path, "c.jsonl") == {"0.jpg": "x?", "1.jpg": ""}


def test_caption_table_in_each_split_folder_is_read(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write(tmp_path / split, *TEXTS)
        (tmp_path / split / "metadata.jsonl").write_text(JSONL.replace("sea", f"sea of {split}"))
    found = captions(tmp_path, "metadata.jsonl")
    assert found["train/1.jpg"] == 'a "red" boat, at sea of train 1'
    assert found["validation/2.jpg"] == 'a "red" boat, at sea of validation 2'


@pytest.mark.parametrize("source", ["data/metadata.jsonl", "{root}/data/metadata.jsonl"])
@pytest.mark.parametrize("images", [None, "data"])
def test_caption_paths_may_be_relative_to_the_table(tmp_path: Path, source: str, images) -> None:
    write(tmp_path / "data", *TEXTS)
    (tmp_path / "data" / "metadata.jsonl").write_text(JSONL)
    found = captions(tmp_path, source.format(root=tmp_path), images=images)
    assert found == {f"data/{name}": text for name, text in TEXTS.items()}


@pytest.mark.parametrize("row", ["/data/0.jpg,x", "0,x", "0.jpg,", "sub/0.jpg,x"])
def test_caption_table_of_other_images_is_refused(tmp_path: Path, row: str) -> None:
    write(tmp_path, *TEXTS)
    (tmp_path / "c.csv").write_text(f"file_name,text\n{row}\n")
    with pytest.raises(
        UserError, match=r"c\.csv has no caption for any of 3 images, such as 0\.jpg"
    ):
        captions(tmp_path, "c.csv")


def test_odd_names_of_a_caption_table_are_told_in_one_line(tmp_path: Path) -> None:
    write(tmp_path, *TEXTS)
    for content in ('file_name,text\n"\n",\n', '"a\nb",text\n0.jpg,x\n'):
        (tmp_path / "c.csv").write_text(content)
        with pytest.raises(UserError) as refused:
            captions(tmp_path, "c.csv")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("table", ["c.csv", "c.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_caption_table_without_a_row_is_refused(tmp_path: Path, table: str, content: bytes) -> None:
    write(tmp_path, *TEXTS)
    (tmp_path / table).write_bytes(content)
    with pytest.raises(UserError, match="holds no rows"):
        captions(tmp_path, table)


def test_images_without_any_text_file_are_refused(tmp_path: Path) -> None:
    write(tmp_path, *TEXTS)
    with pytest.raises(UserError, match=r"captions=txt has no caption .* a text file of the same"):
        captions(tmp_path, "txt")
    (tmp_path / "2.txt").write_text("one")
    assert captions(tmp_path, "txt") == {"0.jpg": "", "1.jpg": "", "2.jpg": "one"}


def test_caption_that_is_no_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path, *TEXTS)
    (tmp_path / "c.jsonl").write_text('{"file_name": "0.jpg", "text": ["a", 3]}\n')
    with pytest.raises(UserError, match=r"caption of 0\.jpg in .* is a int: write a text"):
        captions(tmp_path, "c.jsonl")


SEVERAL = {
    "c.csv": "file_name,text\n0.jpg,one\n1.jpg,other\n0.jpg,two\n0.jpg,\n0.jpg,three\n",
    "c.jsonl": '{"image": "0.jpg", "caption": ["one", "two", "three"]}\n'
    '{"image": "1.jpg", "caption": "other"}\n',
}


@pytest.mark.parametrize("name", SEVERAL)
def test_each_visit_sees_one_of_several_captions(tmp_path: Path, name: str) -> None:
    for k, scene in enumerate(scenes(3, 16)):
        (tmp_path / f"{k}.jpg").write_bytes(scene.encoded())
    (tmp_path / name).write_text(SEVERAL[name])
    (tmp_path / "held").write_text("2.jpg\n")
    source = ImageFolder("train", tmp_path, captions=name, validation_list=f"{tmp_path}/held")
    assert [source.caption(i) for i in range(2)] == ["one two three", "other"]  # for a vocabulary
    data = ImageDataset(source, Transform(16))
    seen = [data[SeededIndex(0, seed)].caption for seed in range(60)]
    assert {text for (text,) in seen} == {"one", "two", "three"}
    assert seen == [data[SeededIndex(0, seed)].caption for seed in range(60)]
    assert data[0].caption == ("one",)  # validation, and whatever else draws nothing


def test_row_with_more_fields_than_the_header_is_refused(tmp_path: Path) -> None:
    write(tmp_path, *TEXTS)
    rows = "file_name,text\n0.jpg,fine\n1.jpg,a boat, at sea\n"
    (tmp_path / "c.csv").write_text(rows)
    with pytest.raises(UserError, match=r"row 3 of .*c\.csv has 3 fields, and the header 2: put"):
        captions(tmp_path, "c.csv")


def test_empty_column_hides_no_full_one(tmp_path: Path) -> None:
    write(tmp_path, *TEXTS)
    (tmp_path / "c.csv").write_text("file_name,text,caption\n0.jpg,,a boat\n1.jpg,,a sea\n")
    assert captions(tmp_path, "c.csv")["0.jpg"] == "a boat"
