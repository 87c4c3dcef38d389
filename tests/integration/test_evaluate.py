"""`ldmlab evaluate` of both stages and of anyone's images, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ldmlab.apps.cli.main import main
from ldmlab.core.tensors import to_bytes
from ldmlab.data.digits import Digits

JUDGE = ["train_judge=true", "judge.max_steps=20", "judge.limit=64"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of digits by their classes, and the same as an npz file."""
    folder = tmp_path_factory.mktemp("images")
    batch = Digits("test").__getitems__(list(range(40)))
    assert batch.image is not None and batch.label is not None
    pixels = to_bytes(batch.image).permute(0, 2, 3, 1).numpy()
    for number, (image, label) in enumerate(zip(pixels, batch.label.tolist(), strict=True)):
        path = folder / "digits" / Digits.classes[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(path)
    np.savez(folder / "digits.npz", pixels, batch.label.numpy())
    return folder


def _card(path: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((path / "card.json").read_text())["metrics"]
    return metrics


@pytest.mark.slow
def test_both_stages_of_a_run_are_measured(
    stored_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = "metrics=[fd_judge,rfd_judge,class_accuracy,psnr]"
    typed = ["evaluate", f"run={stored_run}", wanted, "num_samples=8", "folds=2", *JUDGE]
    main(typed)
    told = capsys.readouterr().out
    assert "held_out_accuracy" in told and "fd_judge" in told
    card = _card(stored_run)
    assert {"fd_judge", "rfd_judge", "class_accuracy", "psnr"} <= set(card)
    entry = card["fd_judge"]
    assert (entry["samples"], entry["reference"]) == (8, "split train")
    assert entry["sampler"]["steps"] and entry["guidance"]["name"] == "ClassifierFree"
    assert entry["network_sha256"] and entry["floor"] is not None and entry["interval"]
    # The same again finds everything: no image is drawn, the judge is not trained again.
    before = card["fd_judge"]["value"]
    judges = list((stored_run / "judges").iterdir())
    main([*typed, "seed=0"])
    assert _card(stored_run)["fd_judge"]["value"] == before
    assert list((stored_run / "judges").iterdir()) == judges

    stage_one = stored_run.parents[1] / "autoencoder" / "stored"
    main(["evaluate", f"run={stage_one}", "num_samples=8"])
    found = _card(stage_one)
    assert set(found) == {"psnr", "ssim"}
    assert found["psnr"]["value"] == pytest.approx(card["psnr"]["value"])
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", f"run={stage_one}", "metrics=[fid,psnr]"])
    assert "stage one draws none" in capsys.readouterr().err


def test_own_images_are_judged_without_a_run(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = images / "digits", images / "digits.npz"
    where = [f"paths.runs={tmp_path}", f"out={tmp_path}/card"]
    judged = "metrics=[fd_judge,class_accuracy]"
    typed = ["evaluate", f"samples={folder}", "data=digits", judged, *where, *JUDGE, "folds=0"]
    main(typed)
    by_name = _card(tmp_path / "card")
    main([*typed, f"samples={file}"])
    by_number = _card(tmp_path / "card")
    for name in ("fd_judge", "class_accuracy"):
        assert by_name[name]["value"] == pytest.approx(by_number[name]["value"], abs=1e-4)
    assert by_name["class_accuracy"]["samples"] == 40

    pair = ["evaluate", f"samples={file}", f"reference={file}", "metrics=[psnr,ssim]", *where]
    main(pair)
    assert _card(tmp_path / "card")["ssim"]["value"] == pytest.approx(1)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("metrics=[fid]", "run is mandatory"),
        ("train_judge=true", "data=<name>"),
        ("samples={a} metrics=[kid]", "reference=<folder or npz>, or data=<name>"),
        ("samples={a} metrics=[kid] reference=train", "add data=<name>"),
        ("samples={a} reference={a} metrics=[fd_judge]", "no judge, and no data=<name>"),
        ("samples={a} metrics=[class_accuracy]", "networks.judge=<file>"),
        ("samples={a} reference={a}", "metrics=[fid,kid]"),
        ("samples={a} reference={a} metrics=[rfid]", "are of a run"),
        ("samples={a} reference={a} metrics=[fdi]", "a list of judge, fid"),
        ("samples=nowhere reference={a} metrics=[kid]", "samples=nowhere does not exist"),
        ("samples={a} reference={a} metrics=[lpips] networks.inceptoin=1", "networks.inception"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    typed: str, words: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = typed.format(a=images / "digits").split()
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", *given, f"paths.runs={tmp_path}"])
    told = capsys.readouterr().err.strip().splitlines()
    assert words in told[-1] and told[-1].startswith("ldmlab: error: ")
