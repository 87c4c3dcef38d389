"""The log of a folder of samples: what is missing, what is refused, what a kill leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ldmlab.core.errors import UserError
from ldmlab.core.sample_log import LINES, SETTINGS, SampleLog

SETTINGS_A = {"seed": 0, "sampler": {"name": "DDIM", "steps": 50}, "also": None}


def record(index: int, label: int = 3) -> dict[str, object]:
    return {"file": f"{index:05d}.png", "index": index, "label": label}


def filled(folder: Path, *indices: int) -> SampleLog:
    log = SampleLog(folder, SETTINGS_A)
    with log.open():
        for index in indices:
            (folder / f"{index:05d}.png").touch()
            log.add(record(index))
    return log


def lines(folder: Path) -> list[int]:
    return [json.loads(line)["index"] for line in (folder / LINES).read_text().splitlines()]


def test_what_is_missing_is_what_has_no_file_or_no_line(tmp_path: Path) -> None:
    filled(tmp_path, 0, 1, 3)
    (tmp_path / "00001.png").unlink()
    (tmp_path / "00002.png").touch()  # of a kill between an image and its line
    with (tmp_path / LINES).open("a") as file:
        file.write('{"file": "00002.png", "ind')
    log = SampleLog(tmp_path, SETTINGS_A)
    assert log.missing({}, 5) == [1, 2, 4]
    with log.open():
        assert lines(tmp_path) == [0, 3]
        for index in (1, 2, 4):
            (tmp_path / f"{index:05d}.png").touch()
            log.add(record(index))
        assert lines(tmp_path) == [0, 3, 1, 2, 4]  # as they came
    assert lines(tmp_path) == [0, 1, 2, 3, 4]
    assert SampleLog(tmp_path, SETTINGS_A).missing({}, 5) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed=0, and seed=1"),
        ({"sampler": {"name": "DDIM", "steps": 20}}, "sampler.steps=50, and sampler.steps=20"),
        ({"sampler": {"name": "DDPM", "steps": 20}}, "sampler.name=DDIM, and sampler.name=DDPM"),
        ({"also": "a\nb"}, "also=null, and also=a b"),
    ],
)
def test_other_settings_are_refused_by_their_first_difference(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    filled(tmp_path, 0)
    with pytest.raises(UserError) as refused:
        SampleLog(tmp_path, SETTINGS_A | change)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_another_condition_of_an_image_is_refused(tmp_path: Path) -> None:
    log = filled(tmp_path, 0, 1)
    same = {k: {"index": k, "label": 3} for k in range(3)}
    assert SampleLog(tmp_path, SETTINGS_A).missing({k: record(k) for k in range(3)}, 3) == [2]
    with pytest.raises(UserError, match=r"00001\.png is of label=3, and label=4 is asked for"):
        log.missing(same | {1: {"index": 1, "label": 4}}, 3)


def test_damaged_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text('{"seed"')
    with pytest.raises(UserError, match="cannot be read"):
        SampleLog(tmp_path, SETTINGS_A)


def test_a_folder_that_is_being_filled_is_refused(tmp_path: Path) -> None:
    one, other = filled(tmp_path, 0), SampleLog(tmp_path, SETTINGS_A)
    with (
        one.open(),
        pytest.raises(UserError, match="is being filled by another process"),
        other.open(),
    ):
        raise AssertionError("two processes write one folder")


def test_a_start_that_fails_at_its_first_image_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), SampleLog(tmp_path, SETTINGS_A).open():
        _ = 1 / 0
    assert not [*tmp_path.iterdir()]
