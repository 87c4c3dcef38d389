"""`ldmlab report` of trained runs, and the report that a training ends with."""

from __future__ import annotations

from pathlib import Path

import pytest

from ldmlab.apps.cli.main import main
from ldmlab.apps.commands import train
from ldmlab.apps.runs.folder import RunFolder


def test_report_of_both_stages_of_a_stored_run(
    stored_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_one = stored_run.parents[1] / "autoencoder" / "stored"
    for run, has_schedule in ((stored_run, True), (stage_one, False)):
        out = tmp_path / f"{run.parent.name}.html"
        main(["report", f"run={run}", f"out={out}"])
        assert capsys.readouterr().out == f"{out}\n"
        text = out.read_text()
        assert f"<h1>run_v1, {run.parent.name}</h1>" in text
        assert ("log-SNR" in text) == has_schedule
        assert "finished</td>" in text
        assert not (run / "report.html").exists()


def test_training_outlives_a_report_that_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.report_page(RunFolder(tmp_path / "no_run"), [])
    assert "no report was written" in capsys.readouterr().err
