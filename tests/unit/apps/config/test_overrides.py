"""Arguments: text arrives as typed, everything else follows Hydra's grammar."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.overrides import parse, protect, text_of, unprotect
from ldmlab.core.errors import UserError

# Texts that Hydra's grammar would refuse, split or change.
PROMPTS = (
    'a red house, on the left [of] a "sea"',
    "an oil painting, in front of the Buddha's head lies a tranquil river, two cranes drink",
    "it's raining; the cat's away (so the mice, all 7 of them, play) = fun?",
    "{curly: braces}, $HOME, ${oc.env:HOME}, \\${escaped} and a \\ backslash\\",
    "ends with a quote'",
    "'quoted from end to end'",
    "null",
    "",
    "3.14",
    "two\nlines\tand a tab",
    "emoji \U0001f30a, \u0645\u0631\u062d\u0628\u0627 and ~tilde @ # % & * !",
    " spaces around ",
)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_text_values_survive_composition(conf: Path, prompt: str) -> None:
    cfg = compose([f"prompt={prompt}"])
    assert OmegaConf.to_container(cfg, resolve=True)["prompt"] == prompt


@pytest.mark.parametrize("prompt", PROMPTS)
def test_text_values_survive_hydra_main_with_lightning_arguments(
    seen: SimpleNamespace, command: Callable[..., tuple[int, str, str]], prompt: str
) -> None:
    appended = ('hydra.run.dir="."', "hydra.job.name=train_ddp_process_1")
    code, _, err = command("train", f"prompt={prompt}", *appended, "hydra.output_subdir=null")
    assert code == 0, err
    assert seen.cfg.prompt == prompt


@given(st.text(alphabet=st.sampled_from("a '\"\\$}{,=[]()~#"), max_size=12))
def test_unprotect_inverts_protect(text: str) -> None:
    assert unprotect(protect(f"prompt={text}")) == f"prompt={text}"


def test_paths_need_no_quoting(conf: Path) -> None:
    cfg = compose(["codec.run=runs/a=b, c/step=1.ckpt", "paths.runs=/x/y=[z]"])
    assert cfg.codec.run == "runs/a=b, c/step=1.ckpt"
    assert cfg.paths.runs == "/x/y=[z]"


def test_null_empties_a_path_but_is_a_word_in_a_prompt() -> None:
    assert parse("codec.run=null").value() is None
    assert str(parse("prompt=null").value()) == "null"


@pytest.mark.parametrize("argument", ["~sampler", "~stages.diffusion.lr=1"])
def test_key_deletion_is_refused(argument: str) -> None:
    with pytest.raises(UserError, match="nothing may be deleted"):
        parse(argument)


@pytest.mark.parametrize("argument", ["seed", "=3", "seed=[1,", "seed=a'b"])
def test_unreadable_arguments_are_refused(argument: str) -> None:
    with pytest.raises(UserError):
        parse(argument)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ('paths.runs="/a b"', "/a b"),
        ("paths.runs='/a b'", "/a b"),
        ("paths.runs=~/runs", str(Path.home() / "runs")),
        ("data.root=~", str(Path.home())),
        ("prompt=~ a wave ~", "~ a wave ~"),
        ('prompt="quoted"', '"quoted"'),
        ("run_id=1.10", "1.10"),
        ("run_id=2024_01_02", "2024_01_02"),
        ("run_id=0x1f", "0x1f"),
        ("run_id=1e5", "1e5"),
        ("run_id=null", None),
    ],
)
def test_text_is_what_a_user_means_by_it(argument: str, value: str | None) -> None:
    assert parse(argument).value() == value
    key = argument.partition("=")[0]
    assert text_of(key, [argument]) == value
