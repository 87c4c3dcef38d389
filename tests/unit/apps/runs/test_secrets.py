"""Secrets of the environment: out of what is written and shown, and the run still runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.instantiate import build
from ldmlab.apps.config.migrations import VERSION
from ldmlab.apps.config.run_base import TRUST_VARIABLE, load_config
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.apps.runs.secrets import masked, redact_values
from ldmlab.core.errors import UserError

SECRET = "0123456789abcdefsecret"


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[dict[str, Any]], Any]:
    """Writes a configuration as a run does; gives it as it is read again."""

    def write(tree: dict[str, Any]) -> Any:
        folder = RunFolder.create(tmp_path, "toy", "diffusion", "a")
        folder.write_config(OmegaConf.create({"config_version": VERSION, **tree}))
        assert SECRET not in folder.config.read_text()
        return load_config(folder.config)

    return write


def test_secret_is_stored_as_its_variable_and_resolved_on_reading(
    kept: Callable[[dict[str, Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    tree = {"asked": "${oc.env:WANDB_API_KEY}", "typed": [f"s3://{SECRET}@host"]}
    with pytest.raises(UserError, match=r"trust=\[WANDB_API_KEY\]"):  # a stranger's run asks too
        kept(tree)
    monkeypatch.setenv(TRUST_VARIABLE, "WANDB_API_KEY")
    cfg = kept(tree)
    assert cfg.asked == SECRET and cfg.typed[0] == f"s3://{SECRET}@host"
    monkeypatch.setenv("WANDB_API_KEY", "another one")
    assert cfg.asked == "another one"


def test_conf_words_keys_and_targets_are_never_redacted(
    kept: Callable[[dict[str, Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("autoencoder", "velocity", "ldmlab.training.ema.warmup_decay")
    for number, word in enumerate(words):
        monkeypatch.setenv(f"A{number}_KEY", word)
    monkeypatch.setenv("A_SHORT_TOKEN", "learned")
    tree = {word: word for word in (*words, "learned")}
    assert redact_values(tree) == masked(tree) == tree
    monkeypatch.setenv("MODULE_KEY", "ldmlab.training")
    target = {"_target_": "ldmlab.training.ema.other", "ldmlab.training": "my/ldmlab.training"}
    assert masked(target) == {
        "_target_": "ldmlab.training.ema.other", "ldmlab.training": "my/<redacted>"
    }  # fmt: skip
    monkeypatch.setenv("MY_KEY", "autoencoder")
    plain: Any = OmegaConf.to_container(compose())
    cfg = kept(plain)
    assert cfg.stages.autoencoder == compose().stages.autoencoder
    build(cfg.bottleneck)


def test_longest_secret_is_redacted_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "aaaaaaaa")
    monkeypatch.setenv("B_TOKEN", "aaaaaaaabbbb")
    assert masked(["aaaaaaaabbbb-aaaaaaaa"]) == ["<redacted>-<redacted>"]
    assert redact_values(["aaaaaaaabbbb"]) == ["${oc.env:B_TOKEN}"]


def test_stored_configuration_keeps_secret_references_and_resolves_the_rest(
    kept: Callable[[dict[str, Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", "${here}")
    cfg = kept(
        {
            "data": {"root": "a", "train": {"root": "${data.root}/train"}, "own": "${.root}"},
            "place": "${oc.env:PLACE}",
            "numbers": ["${oc.decode:'[1, 2]'}", "${data.root}"],
        }
    )
    monkeypatch.setenv("PLACE", "elsewhere")
    assert cfg.place == "${here}" and cfg.numbers == [[1, 2], "a"]
    cfg.data.root = "b"
    assert cfg.data.train.root == "b/train" and cfg.data.own == "b" and cfg.numbers[1] == "b"


def test_stored_configuration_is_the_one_that_ran(
    kept: Callable[[dict[str, Any]], Any],
) -> None:
    cfg = compose(["data=image_folder", "data.root=faces"])
    again = kept(OmegaConf.to_container(cfg))  # type: ignore[arg-type]
    plain, back = (OmegaConf.to_container(c, resolve=True) for c in (cfg, again))
    assert plain == back
    again.data.root = "other"
    assert "other" in str(OmegaConf.to_container(again.data.train, resolve=True))
