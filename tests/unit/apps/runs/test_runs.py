"""Run folders: made, found, named; and their ids."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ldmlab.apps.config.run_id import name_of_run, run_id, stage_identity
from ldmlab.apps.runs.find import find_checkpoint, find_run
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.stages.codec import AUTOENCODER_KEYS
from ldmlab.core.environment import describe_environment
from ldmlab.core.errors import UserError

CONFIG = {
    "seed": 0,
    "unet": {"channels": 32},
    "trainer": {"devices": 1, "accelerator": "cpu", "deterministic": True},
    "paths": {"runs": "runs"},
    "logger": {"wandb": None},
    "stages": {"diffusion": {"lr": 1e-4, "max_steps": 10, "warmup_steps": 1}},
}


def _changed(key: str, value: object) -> dict[str, object]:
    config = json.loads(json.dumps(CONFIG))
    *parents, last = key.split(".")
    node = config
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    return config


def test_run_id_is_stable_over_versions_and_key_order() -> None:
    assert run_id(CONFIG) == run_id(dict(reversed(CONFIG.items())))
    assert len(run_id(CONFIG)) == 10
    assert run_id({"seed": 0, "lr": 1.0}) == run_id({"seed": 0.0, "lr": 1}) == "f4f5d80fef"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.devices", 8),
        ("trainer.accelerator", "gpu"),
        ("trainer.strategy", "ddp"),
        ("trainer.enable_progress_bar", False),
        ("paths.runs", "/elsewhere"),
        ("logger.wandb", {"project": "x"}),
        ("stages.diffusion.max_steps", 99),
        ("callbacks.sample_every", 3),
        ("resume", "never"),
    ],
)
def test_run_id_ignores_keys_without_effect_on_results(key: str, value: object) -> None:
    assert run_id(_changed(key, value)) == run_id(CONFIG)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("network.channels", 64),
        ("network.extra", None),
        ("stages.diffusion.lr", 2e-4),
        ("codec.hash", "ab"),
        ("trainer.deterministic", False),
    ],
)
def test_run_id_changes_with_keys_that_change_results(key: str, value: object) -> None:
    assert run_id(_changed(key, value)) != run_id(CONFIG)


def test_where_data_is_held_is_part_of_the_diffusion_identity_alone() -> None:
    def identity(keys: tuple[str, ...], **data: object) -> dict[str, object]:
        tree = {"data": {"limit": None, "in_memory": True, "latents": None} | data, "seed": 0}
        return stage_identity(OmegaConf.create(tree), keys)

    one = tuple(key for key in AUTOENCODER_KEYS if key.lstrip("~").startswith("data"))
    assert identity(one) == identity(one, in_memory=False) == identity(one, latents="a")
    assert identity(one) != identity(one, limit=1)
    assert identity(("data",)) != identity(("data",), in_memory=False)
    assert identity(("data",)) == identity(("data",), latents="a")  # their form is, not their place


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "runs", "toy", "diffusion", "0123456789")
    folder.write_config(OmegaConf.create(CONFIG))
    folder.link_latest()
    return folder


def test_find_run_accepts_every_path_into_a_run(run: RunFolder) -> None:
    checkpoint = run.checkpoints / "step-000100.ckpt"
    checkpoint.touch()
    paths = [run.path, run.path.parent / "latest", run.path.parent, checkpoint, run.config]
    paths.append(run.path.parent / "latest" / "checkpoints" / checkpoint.name)
    assert {find_run(path).path for path in paths} == {run.path}
    assert find_checkpoint(run.path.parent) == find_checkpoint(checkpoint) == checkpoint
    for name in ("best.ckpt", "last.ckpt"):  # the best only where there is no last
        (run.checkpoints / name).touch()
        assert find_checkpoint(run.path).name == find_checkpoint(run.config).name == name


def test_only_leftovers_of_killed_processes_are_removed(run: RunFolder) -> None:
    old, fresh = (run.checkpoints / f".last.ckpt.{pid}-0.part" for pid in (1, 2))
    for path in (old, fresh):
        path.touch()
    os.utime(old, (0, 0))
    run.sweep()
    assert list(run.checkpoints.iterdir()) == [fresh]


def test_runs_folder_can_be_moved(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "runs").rename(tmp_path / "moved")
    assert find_run(tmp_path / "moved/toy/diffusion/latest").path.name == run.path.name


def test_latest_points_at_the_newest_run(run: RunFolder, tmp_path: Path) -> None:
    again = RunFolder.create(tmp_path / "runs", "toy", "diffusion", "again")
    again.write_config(OmegaConf.create(CONFIG))
    again.link_latest()
    assert find_run(run.path.parent).path == again.path
    assert {path.name for path in run.path.parent.iterdir()} == {"0123456789", "again", "latest"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("runs/toy", "diffusion/latest"),
        ("runs/toi/diffusion", "did you mean toy"),
        ("runs/toy/diffusion/012345678", "did you mean 0123456789"),
        ("nowhere", "which holds runs"),
    ],
)
def test_path_without_a_run_says_what_is_there(
    run: RunFolder, tmp_path: Path, path: str, words: str
) -> None:
    with pytest.raises(UserError) as refused:
        find_run(tmp_path / path)
    assert words in str(refused.value) and path.rpartition("/")[2] in str(refused.value)


def test_run_without_a_checkpoint_says_so(run: RunFolder) -> None:
    with pytest.raises(UserError, match="no checkpoint yet"):
        find_checkpoint(run.path)


@pytest.mark.parametrize("name", ["../up", "a=b", "", ".hidden", "a b", "latest"])
def test_run_names_cannot_leave_the_runs_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a folder"):
        RunFolder.create(tmp_path, "toy", "diffusion", name)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_runs_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"paths\.runs"):
        RunFolder.create(tmp_path / "file", "toy", "diffusion", "a")


def test_metric_cards_are_read_back(run: RunFolder) -> None:
    with pytest.raises(UserError, match="ldmlab evaluate"):
        run.read_card()
    run.write_card({"metrics": {"fd": {"value": 1.5}}})
    assert run.read_card()["metrics"]["fd"]["value"] == 1.5
    for damage in ("{", "[]", "{}", '{"metrics": 1}', "null"):
        run.card.write_text(damage)
        with pytest.raises(UserError, match="damaged"):
            run.read_card()


def test_unreadable_clock_stops_no_run(run: RunFolder) -> None:
    assert run.read_seconds() == 0
    run.write_seconds(12.5)
    assert run.read_seconds() == 12.5
    for damage in ("", "{", "[]", "{}", '{"training": null}', '{"training": "soon"}'):
        (run.path / "seconds.json").write_text(damage)
        assert run.read_seconds() == 0


def test_run_name_of_digits_stays_text(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "1.0", "diffusion", "1.10")
    run.write_config(OmegaConf.create({"name": "1.0", "run_id": "1.10"}))
    cfg = OmegaConf.load(run.config)
    assert run.path == tmp_path / "1.0/diffusion/1.10"
    assert name_of_run(cfg, {}) == "1.10" and cfg.name == "1.0"


def test_environment_is_described(run: RunFolder) -> None:
    run.write_environment()
    environment = describe_environment()
    assert environment["versions"]["ldmlab"] and environment["devices"]
    assert os.environ["HOME"] not in environment.values()
