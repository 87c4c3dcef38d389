"""Where `ldmlab sample` writes, when, and what it refuses before it loads a model."""

from __future__ import annotations

import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from ldmlab.apps.cli.main import main
from ldmlab.apps.commands import sample
from ldmlab.core.records import DataSpec

LOG = ["samples.jsonl", "sampling.json"]


def draw(stored_run: Path, *overrides: str) -> int:
    """`ldmlab sample`; gives the exit code."""
    try:
        main(["sample", f"run={stored_run}", *overrides])
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("taken", ["00001.png", "100000.png", "grid.png"])
def test_sample_refuses_to_overwrite_before_the_model_is_loaded(
    stored_run: Path,
    tmp_path: Path,
    taken: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sample, "restore", None)
    (tmp_path / taken).touch()
    (tmp_path / "notes.txt").touch()
    assert draw(stored_run, f"out={tmp_path}") == 2
    assert f"{taken} exists and is not overwritten" in capsys.readouterr().err
    assert names(tmp_path) == sorted([taken, "notes.txt"])


@pytest.mark.parametrize("out", ["file", "file/below", "proc"])
def test_sample_refuses_an_unwritable_folder_before_the_model_is_loaded(
    stored_run: Path,
    tmp_path: Path,
    out: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sample, "restore", None)
    (tmp_path / "file").touch()
    place = "/proc/ldmlab" if out == "proc" else f"{tmp_path}/{out}"
    assert draw(stored_run, f"out={place}") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "cannot be written" in said and place in said


def test_refused_sample_leaves_no_folder(stored_run: Path, tmp_path: Path) -> None:
    before = names(stored_run / "samples")
    assert draw(stored_run, "prompt=a digit") == 2  # a model of classes
    assert draw(stored_run, "prompt=a digit", f"out={tmp_path}/new") == 2
    assert draw(stored_run, "labels=0-3", "num_samples=5", f"out={tmp_path}/new") == 2
    assert names(stored_run / "samples") == before and names(tmp_path) == []


def test_interrupted_sample_leaves_whole_images_and_is_finished_by_a_second_start(
    stored_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["labels=3-5,0,9", "sampler=ddim", "sampler.steps=2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert draw(stored_run, *asked, "batch_size=2", f"out={whole}") == 0
    write, written = sample.write_picture, []

    def interrupted(image: Tensor, spec: DataSpec, stem: Path, texts: dict[str, str]) -> Path:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(stem)
        return write(image, spec, stem, texts)

    monkeypatch.setattr(sample, "write_picture", interrupted)
    assert draw(stored_run, *asked, "batch_size=2", f"out={cut}") == 130
    assert names(cut) == ["00000.png", "00001.png", "00002.png", *LOG]
    before = [(cut / f"0000{k}.png").stat().st_mtime_ns for k in range(3)]
    monkeypatch.undo()
    assert draw(stored_run, *asked, "batch_size=3", f"out={cut}") == 0
    assert f"3 of 5 images are in {cut} already" in " ".join(capsys.readouterr().err.split())
    assert [(cut / f"0000{k}.png").stat().st_mtime_ns for k in range(3)] == before
    assert names(cut) == names(whole)
    assert (cut / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()
    for name in [*(f"0000{k}.png" for k in range(5)), "grid.png"]:
        one, other = (np.asarray(Image.open(d / name), dtype=int) for d in (cut, whole))
        assert abs(one - other).max() <= 1
    assert draw(stored_run, *asked, "seed=8", f"out={cut}") == 2
    assert "seed=0, and seed=8 is asked for" in capsys.readouterr().err
    assert draw(stored_run, "labels=3-4,4", *asked[1:], f"out={cut}") == 2
    assert "00002.png is of label=5, and label=4 is asked for" in capsys.readouterr().err


def test_samples_say_what_they_are(stored_run: Path, tmp_path: Path) -> None:
    asked = ["labels=7,1-2", "per_class=2", "guidance.scale=3", "sampler=ddim", "sampler.steps=2"]
    assert draw(stored_run, *asked, "seed=4", "also=6", f"out={tmp_path}") == 0
    told = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [line["label"] for line in told] == [7, 7, 1, 1, 2, 2]
    assert [line["file"] for line in told] == [f"0000{k}.png" for k in range(6)]
    for index, line in enumerate(told):
        assert (line["seed"], line["index"], line["also"]) == (4, index, "6")
        assert line["sampler"]["name"] == "DDIM" and line["sampler"]["steps"] == 2
        assert line["guidance"]["scale"] == 3
        chunks = Image.open(tmp_path / line["file"]).text  # type: ignore[attr-defined]
        assert chunks["label"] == str(line["label"]) and chunks["seed"] == "4"
        assert json.loads(chunks["sampler"]) == line["sampler"]
        assert set(chunks) == set(line) - {"file"}


def test_sample_memory_is_constant_and_its_grid_capped(
    stored_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write, batches, most = sample.write_picture, {}, []

    def counted(image: Tensor, spec: DataSpec, stem: Path, texts: dict[str, str]) -> Path:
        batch = image if image._base is None else image._base
        batches[id(batch)] = weakref.ref(batch)
        most.append(sum(ref() is not None for ref in batches.values()))
        return write(image, spec, stem, texts)

    monkeypatch.setattr(sample, "write_picture", counted)
    monkeypatch.setattr(sample, "GRID", 3)
    assert draw(stored_run, "num_samples=10", "batch_size=2", f"out={tmp_path}") == 0
    assert len(most) == 10 and max(most) <= 2
    assert len(names(tmp_path)) == 11 + len(LOG)
    width, height = Image.open(tmp_path / "grid.png").size
    assert width > 3 * height  # one row
    assert "10 images and grid.png of the first 3" in capsys.readouterr().err


def test_validation_conditions_do_not_depend_on_the_batch_size(
    stored_run: Path, tmp_path: Path
) -> None:
    for size in (1, 16):
        assert (
            draw(stored_run, "num_samples=3", f"batch_size={size}", f"out={tmp_path}/{size}") == 0
        )
    for name in ("00000.png", "00001.png", "00002.png"):
        one, other = (np.asarray(Image.open(tmp_path / d / name), dtype=int) for d in ("1", "16"))
        assert abs(one - other).max() <= 1


def test_each_sample_command_gets_its_own_folder(stored_run: Path) -> None:
    for _ in range(2):
        assert draw(stored_run, "num_samples=1", "labels=1", "seed=9") == 0
    folders = sorted((stored_run / "samples").glob("samples-seed9*"))
    assert [folder.name for folder in folders] == ["samples-seed9", "samples-seed9-2"]
    for folder in folders:
        assert names(folder) == ["00000.png", "grid.png", *LOG]
        shutil.rmtree(folder)
