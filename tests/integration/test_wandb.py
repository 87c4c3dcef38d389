"""What a run tells Weights & Biases, read from what it leaves without network and account."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.harness import TINY as PLAIN
from wandb.proto.wandb_internal_pb2 import Record

from ldmlab.apps.cli import main as cli
from ldmlab.core.errors import UserError
from ldmlab.training.loggers import wandb_run

KEY = "0123456789abcdef0123456789abcdefdeadbeef"
TINY = (*PLAIN, "logger=wandb")
_BLOCK = 32768


def _records(path: Path) -> Iterator[Record]:
    """The records of a .wandb file: LevelDB's log format behind seven bytes of its own."""
    data, at, text = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if _BLOCK - at % _BLOCK < 7:
            at += _BLOCK - at % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        text += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(text)
            yield record
            text = b""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages, and stage two again for more steps."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", KEY)
        patch.setenv("WANDB_SILENT", "true")
        cli.main(["train", f"paths.runs={runs}", *TINY])
        cli.main(["train", f"paths.runs={runs}", *TINY, "stages.diffusion.max_steps=6"])
    return runs


def _runs(runs: Path, stage: str) -> list[list[Record]]:
    folder = runs / "tiny" / stage / "latest" / "wandb"
    return [list(_records(path)) for path in sorted(folder.glob("offline-run-*/*.wandb"))]


def _rows(records: list[Record]) -> list[dict[str, object]]:
    """What was logged, call by call; a picture is a table."""
    rows = []
    for record in records:
        items = {(i.key, *i.nested_key): json.loads(i.value_json) for i in record.history.item}
        # A name stands in the key, or is the first part of the nested one.
        rows.append({next(filter(None, name)): value for name, value in items.items()})
    return [row for row in rows if row]


def _columns(records: list[Record]) -> set[str]:
    return {name for row in _rows(records) for name in row}


@pytest.mark.parametrize(
    ("stage", "picture"), [("autoencoder", "reconstructions"), ("diffusion", "samples")]
)
def test_wandb_run_has_the_stage_as_job_type_with_curves_and_images(
    told: Path, stage: str, picture: str
) -> None:
    first = _runs(told, stage)[0]
    (run,) = [record.run for record in first if record.HasField("run")]
    name = (told / "tiny" / stage / "latest").resolve().name
    assert run.run_id == f"tiny-{stage}-{name}"
    assert (run.run_group, run.job_type, run.project) == ("tiny", stage, "ldmlab")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["stages"][stage]["max_steps"] == 4 and config["name"] == "tiny"
    curves = {
        "autoencoder": {"train/pixel", "grad_norm/autoencoder"},
        "diffusion": {"train/loss", "grad_norm/network"},
    }
    assert curves[stage] <= _columns(first)
    assert [name for name in _columns(first) if name.startswith("val/")]
    steps = {row["trainer/global_step"] for row in _rows(first) if picture in row}
    assert steps == {2, 4}


def test_wandb_summary_holds_the_metric_card(told: Path) -> None:
    told_last = _columns(_runs(told, "diffusion")[0])
    card = json.loads((told / "tiny/diffusion/latest/card.json").read_text())
    assert {f"card/{name}" for name in card["metrics"]} <= told_last


def test_wandb_run_is_continued_on_resume(told: Path) -> None:
    parts = _runs(told, "diffusion")
    assert len(parts) == 2
    ids = {record.run.run_id for part in parts for record in part if record.HasField("run")}
    assert len(ids) == 1
    assert len([row for row in _rows(parts[1]) if "train/loss" in row]) == 2


def test_wandb_api_key_is_written_nowhere(told: Path) -> None:
    files = [path for path in told.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert any(path.suffix == ".ckpt" for path in files)
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_wandb_key_in_the_configuration_is_redacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_SILENT", "true")
    tagged = "+logger.wandb.notes=${oc.env:WANDB_API_KEY}"
    cli.main(["train", f"paths.runs={tmp_path}", *TINY, "stage=autoencoder", tagged])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in files if KEY.encode() in path.read_bytes()] == []


def _online(folder: Path) -> None:
    wandb_run.open_wandb(folder, "diffusion", {"mode": "online", "project": "x"}, {})


def test_wandb_online_without_a_key_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match="wandb login"):
        _online(tmp_path)


def test_wandb_server_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes the call and says nothing
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(UserError, match=r"does not answer; take logger\.wandb\.mode=offline"):
            wandb_run.check_answers(url, 0.3)
        assert time.monotonic() - started < 5
    with pytest.raises(UserError, match="does not answer"):
        wandb_run.check_answers(url, 60)  # nobody there: known at once
    assert time.monotonic() - started < 10
