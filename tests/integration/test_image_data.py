"""Data sets on disk through the whole of training, from the command line."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ldmlab.apps.build.experiment import build_data, data_spec
from ldmlab.apps.cli import main as cli
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.run_id import name_of_run, stage_identity
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.stages.codec import AUTOENCODER_KEYS
from ldmlab.apps.stages.session import Session
from ldmlab.apps.stages.two_stage import train_autoencoder, train_diffusion
from ldmlab.core.checkpoint_file import read_checkpoint
from ldmlab.core.errors import UserError
from ldmlab.data.specimens.make import FORMS, OVERRIDES, make

NARROW = (
    "name=narrow", "data.image_size=16", "autoencoder.channels=8", "stages.autoencoder.val_every=1",
    "stages.diffusion.val_every=1", "sampler.steps=1",
    "bottleneck.latent_channels=2", "discriminator=none", "network.channels=8",
    "network.channel_mult=[1,2]", "network.head_channels=8", "codec.num_images=4",
    "stages.autoencoder.max_steps=1", "stages.diffusion.max_steps=1",
    "stages.autoencoder.batch_size=2", "stages.diffusion.batch_size=2",
    "stages.diffusion.warmup_steps=0", "callbacks.num_samples=2", "data.limit=4",
)  # fmt: skip
CONDITIONS = {
    "celebahq": ("conditioner=none",),
    "imagenet": ("conditioner=class", "conditioner.dim=8"),
    "landscapes": ("conditioner=mask", "data.resized=24"),
    "image_folder": ("conditioner=none",),
    "laion": ("conditioner=text", "conditioner.dim=8", "conditioner.head_dim=4"),
}


def opened(root: Path, name: str, form: str, *overrides: str) -> Session:
    """The session that `ldmlab train` would open."""
    needed = OVERRIDES.get((name, form), "").split()
    arguments = [f"data={name}", f"data.root={root}", f"paths.runs={root.parent / 'runs'}"]
    return Session.open(compose([*arguments, *NARROW, *CONDITIONS[name], *needed, *overrides]))


def losses(folder: RunFolder) -> list[str]:
    with (folder.path / "metrics.csv").open() as file:
        return [row["train/pixel"] for row in csv.DictReader(file) if row.get("train/pixel")]


@pytest.mark.parametrize("name", FORMS)
def test_image_data_trains_both_stages(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    form = make(name, root, None, 6, 32)
    # Stage one with loading processes; stage two on images that are encoded as they come.
    folder = train_autoencoder(opened(root, name, form, "data.num_workers=2"))
    weights = read_checkpoint(folder.checkpoints / "last.ckpt")["state_dict"]
    assert int(weights["steps"]) == 1
    session = opened(root, name, form, "data.num_workers=0")
    trained = read_checkpoint(train_diffusion(session).checkpoints / "last.ckpt")
    assert int(trained["state_dict"]["steps"]) == 1
    assert all(bool(v.isfinite().all()) for v in trained["state_dict"].values())
    metadata = trained["metadata"]["spec"]
    promised = data_spec(session.cfg)
    assert metadata["num_classes"] == promised.num_classes
    assert metadata["num_mask_labels"] == promised.num_mask_labels
    assert (metadata["vocabulary"] is None) == (promised.vocabulary is None)
    assert [metadata["image_size"], metadata["image_channels"]] == [16, 3]


def test_losses_do_not_depend_on_workers_or_resume(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make("image_folder", root, "plain", 8, 32)
    (root / "a" / "0002.jpg").rename(root / "a" / "0002[x].jpg")
    (root / "a" / "0002[x].jpg").write_bytes(b"<html>")
    cropped = ("data.crop=random", "data.resized=20", "callbacks.checkpoint_every=3")

    def train(run: str, steps: int, *overrides: str) -> RunFolder:
        return train_autoencoder(
            opened(root, "image_folder", "plain", *cropped, f"run_id={run}",
                   f"stages.autoencoder.max_steps={steps}", "trainer.log_every_n_steps=1",
                   *overrides)
        )  # fmt: skip

    whole = train("whole", 6, "data.num_workers=0")
    train("parts", 3, "data.num_workers=2")
    parts = train("parts", 6, "data.num_workers=2")
    assert len(losses(whole)) == 6 and losses(whole) == losses(parts)
    assert "a/0002[x].jpg" in (whole.path / "broken_files.txt").read_text()
    assert "a/0002[x].jpg" in (parts.path / "broken_files.txt").read_text()


def test_too_many_broken_files_end_training_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    make("image_folder", root, "plain", 8, 32)
    for k in (1, 2, 3, 4, 6):
        (root / "ab"[k % 2] / f"{k:04d}.jpg").write_bytes(b"<html>")
    arguments = ["train", f"paths.runs={tmp_path}", "data=image_folder", f"data.root={root}"]
    workers = ["data.num_workers=2", "data.max_bad=1", "stage=autoencoder"]
    wanted = [o for o in NARROW if "limit" not in o and "max_steps" not in o]
    with pytest.raises(SystemExit) as stop:
        cli.main([*arguments, *wanted, *workers, "stages.autoencoder.max_steps=9"])
    said = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert said[-1].startswith("ldmlab: error: ") and "data.max_bad=1" in said[-1]
    assert ".jpg is no whole image" in said[-1] and "Traceback" not in "".join(said)


def test_latents_are_kept_in_memory_only_if_asked_and_fitting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    make("image_folder", root, "plain", 6, 32)
    train_autoencoder(opened(root, "image_folder", "plain", "data.num_workers=0"))
    capsys.readouterr()
    train_diffusion(opened(root, "image_folder", "plain", "data.num_workers=0"))
    assert "4 images are encoded as training meets them" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"data\.flip=false"):
        opened(root, "image_folder", "plain", "data.in_memory=true")
    held = opened(root, "image_folder", "plain", "data.in_memory=true", "data.flip=false")
    assert held.train.batch.image.shape == (4, 3, 16, 16)
    monkeypatch.setattr("ldmlab.data.sampling.datasets.free_memory", lambda: 1e4)
    with pytest.raises(UserError, match=r"data\.in_memory=true needs 0\.0 GiB for 4 images"):
        opened(root, "image_folder", "plain", "data.in_memory=true", "data.flip=false")


@pytest.mark.parametrize("name", ["vistas", "digits"])
def test_data_spec_of_a_leaf_matches_its_data(name: str) -> None:
    cfg = compose([f"data={name}", "data.in_memory=false"])
    promised, (train, _, spec) = data_spec(cfg), build_data(cfg)
    assert len(promised.vocabulary or ()) == len(spec.vocabulary or ())
    assert replace(promised, vocabulary=None) == replace(spec, vocabulary=None)
    batch = train.__getitems__([0])
    assert batch.image is not None and batch.image.shape[1] == promised.image_channels
    assert batch.image.shape[2:] == (promised.image_size,) * 2


def test_run_id_does_not_depend_on_the_data_folder(tmp_path: Path) -> None:
    ids = set()
    for name in ("here", "there"):
        make("image_folder", tmp_path / name / "root", "plain", 4, 16)
        more = (f"data.num_workers={len(ids)}", f"data.max_bad={len(ids)}")
        session = opened(tmp_path / name / "root", "image_folder", "plain", *more)
        ids.add(name_of_run(session.cfg, stage_identity(session.cfg, AUTOENCODER_KEYS)))
    assert len(ids) == 1
    session = opened(tmp_path / "here/root", "image_folder", "plain", "data.flip=false")
    assert name_of_run(session.cfg, stage_identity(session.cfg, AUTOENCODER_KEYS)) not in ids


def test_user_vocabulary_is_used(tmp_path: Path) -> None:
    root, words = tmp_path / "root", tmp_path / "vocab.txt"
    make("laion", root, None, 4, 16)
    words.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "tree"]))
    session = opened(root, "laion", "shards", f"data.vocabulary={words}", "data.vocabulary_size=7")
    assert session.spec.vocabulary == tuple(words.read_text().splitlines())
    words.write_text("a\ntree\n")
    with pytest.raises(UserError, match=r"data\.vocabulary=.* lacks \[PAD\]"):
        opened(root, "laion", "shards", f"data.vocabulary={words}")


def test_data_leaves_state_the_metadata_of_their_data() -> None:
    metadata = {name: data_spec(compose([f"data={name}"])) for name in FORMS}
    assert metadata["imagenet"].num_classes == 1000
    assert metadata["landscapes"].num_mask_labels == 182
    assert len(metadata["laion"].vocabulary or ()) == 30_522
    assert all(spec.image_size == 256 and spec.image_channels == 3 for spec in metadata.values())


def test_missing_data_root_is_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (["train"], ["data", "action=check"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(
                [*verb, "data=celebahq", "conditioner=none", f"paths.runs={tmp_path / 'runs'}"]
            )
        said = capsys.readouterr().err
        assert stop.value.code == 2 and said.count("\n") == 1
        assert "data.root is not set: name the folder that holds CelebA-HQ" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.image_size=18", "data.image_size=18 does not divide by 4"),
        ("data.background=[a,b,c]", "data.background must be a list, each of it a whole number"),
        ("data.captions=", "data.captions must be a name"),
        ("data.max_bad=-1", "data.max_bad must be a whole number from 0 up"),
        ("data.rooot=x", "did you mean data.root?"),
    ],
)
def test_data_values_out_of_range_are_refused_in_one_line(
    override: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make("image_folder", tmp_path / "root", "plain", 4, 32)
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "data=image_folder", f"data.root={tmp_path / 'root'}", *NARROW[2:],
                  "stage=autoencoder", f"paths.runs={tmp_path / 'runs'}", override])  # fmt: skip
    last = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and last.startswith("ldmlab: error: ") and said in last
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


def test_data_verb_makes_and_checks_specimens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    cli.main(["data", "action=make", "data=imagenet", "form=tars", f"out={root}", "size=32"])
    assert "data.num_classes=3" in capsys.readouterr().err
    check = ["data", "action=check", "data=imagenet", f"data.root={root}", "data.num_classes=3",
             "data.image_size=32", "data.num_workers=0"]  # fmt: skip
    cli.main([*check, f"out={out}"])
    report = json.loads((out / "report.json").read_text())
    assert report["train"]["classes"] == {"0": 4, "1": 4, "2": 4}
    assert report["validation"]["usable"] == 3
    assert Image.open(out / "grid.png").size[0] > 400
    assert "3, 4 to 4 samples each" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*check, f"out={out}"])
    assert "is not overwritten" in capsys.readouterr().err


def test_data_check_reports_unlabelled_masks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    make("landscapes", root, "grey", 4, 32)
    for mask in (root / "masks").rglob("*.png"):
        Image.new("L", Image.open(mask).size, 255).save(mask)
    cli.main(["data", "data=landscapes", f"data.root={root}", "data.num_workers=0",
              "data.image_size=16", "data.resized=24", f"paths.runs={tmp_path}"])  # fmt: skip
    assert "0 occur: no pixel has one" in capsys.readouterr().err


def test_data_check_of_unusable_data_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    make("landscapes", root, "grey", 8, 32)
    for mask in (root / "masks" / "a").iterdir():
        Image.new("L", (32, 24), 200).save(mask)
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "data=landscapes", f"data.root={root}", "data.max_bad=0",
                  "data.num_workers=0", f"paths.runs={tmp_path}",
                  "data.image_size=16", "data.resized=24"])  # fmt: skip
    said = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert "cannot be used, data.max_bad=0" in said[-1] and "label 200" in said[-1]
    (report,) = (tmp_path / "data").glob("*/report.json")
    assert len(json.loads(report.read_text())["train"]["broken"]) >= 3


def test_run_goes_on_only_with_the_data_it_was_begun_on(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for k in range(2, 12, 3):  # folders 2, 5, 8 and 11, in this order
        (root / str(k)).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (16, 16), (20 * k, 60 * i, 9)).save(root / str(k) / f"{i}.png")
    options = ("data.class_folders=true", "data.limit=null", "run_id=one")

    def train(steps: int) -> RunFolder:
        more = f"stages.autoencoder.max_steps={steps}"
        return train_autoencoder(opened(root, "image_folder", "plain", *options, more))

    folder = train(1)
    told = json.loads((folder.path / "data.json").read_text())
    assert told["classes"] == {"0": "2", "1": "5", "2": "8", "3": "11"}
    assert told["samples"] == 14  # of 16, a tenth held out
    train(2)
    (root / "11").rename(root / "3")
    with pytest.raises(UserError, match=r"other classes \(\['2', '5', '8', '11'\], now \['2', '3'"):
        train(3)
    (root / "3").rename(root / "11")
    Image.new("RGB", (16, 16)).save(root / "5" / "more.png")
    with pytest.raises(
        UserError, match=r"trained on other samples \(14, now 15\): bring data.root"
    ):
        train(3)
    (root / "5" / "0.png").unlink()
    with pytest.raises(UserError, match=r"trained on other files: bring"):
        train(3)
    (root / "5" / "more.png").rename(root / "5" / "0.png")
    train(3)


def test_images_of_other_channels_than_the_model_are_refused_or_made_so(tmp_path: Path) -> None:
    make("celebahq", tmp_path / "faces", None, 6, 32)
    form = next(iter(FORMS["celebahq"]))
    with pytest.raises(
        UserError, match=r"data.channels=1, and .* images of 3: set data.channels=3"
    ):
        opened(tmp_path / "faces", "celebahq", form, "data.channels=1")
    make("image_folder", tmp_path / "root", None, 6, 32)
    grey = opened(tmp_path / "root", "image_folder", "plain", "data.channels=1")
    assert grey.train.__getitems__([0]).image.shape[:2] == (1, 1)


def test_classes_and_words_that_the_data_has_not_are_refused(tmp_path: Path) -> None:
    make("celebahq", tmp_path / "root", None, 6, 32)
    form = next(iter(FORMS["celebahq"]))
    with pytest.raises(UserError, match=r"data.num_classes=7, and .* no classes: set .*=null"):
        opened(tmp_path / "root", "celebahq", form, "data.num_classes=7")
    with pytest.raises(UserError, match=r"vocabulary_size=99, and .* no captions: set .*=null"):
        opened(tmp_path / "root", "celebahq", form, "data.vocabulary_size=99")
