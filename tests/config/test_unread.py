"""A key that nothing reads is refused, wherever it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from ldmlab.apps.config.compose import compose
from ldmlab.core.errors import UserError


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("+x._target_=torch.nn.Linear", "x: nothing reads this key"),
        ("+lr=1e-3", "lr: nothing reads this key; did you mean stages.autoencoder.lr"),
        ("+num_samples=4", "num_samples: nothing reads this key"),
        ("+density.lr=1", "density: nothing reads this key"),
        ("+data.shuffle=true", "data.shuffle: nothing reads this key"),
        ("+stages.diffusion.lrr=3", "did you mean stages.diffusion.lr?"),
        ("+stages.third.lr=3", "stages.third: nothing reads this key"),
        ("+codec.x.y=3", "codec.x: nothing reads this key"),
        ("+callbacks.mine=1", "a table with a _target_"),
        ("+callbacks.num_sample=1", "did you mean callbacks.num_samples?"),
        ("+logger.mine=csv", "a table with a _target_"),
        ("+paths.outputs=/x", "paths.outputs: nothing reads this key"),
        ("+trainer.max_time=00:00:01:00", "stages.<stage>.max_steps"),
        ("+trainer.max_epochs=2", "stages.<stage>.max_steps"),
        ("+trainer.max_steps=2", "stages.<stage>.max_steps"),
        ("+trainer.fast_dev_run=true", "debug=fast"),
        ("+trainer.precision=16", "stages.<stage>.precision"),
        ("+trainer.device=2", "did you mean trainer.devices"),
        ("trainer.strategy=ddpp", "auto, or a table with a _target_"),
        ("trainer.devices=[]", "trainer.devices must be"),
    ],
)
def test_key_without_a_reader_is_refused(argument: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        compose([argument])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["+mine=3", "seed=${mine}"],
        ["+mine.deep.seed=3", "seed=${mine.deep.seed}"],
        ["+stages.diffusion.mine=3", "stages.diffusion.max_steps=${.mine}"],
        ["+callbacks.mine._target_=my.Callback"],
        ["+trainer.profiler=simple"],
    ],
)
def test_key_that_something_reads_is_taken(arguments: list[str]) -> None:
    compose(arguments)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("network:\n  channels: 16\n", "# @package _global_"),
        ("# @package _global_\nexperiment:\n  channels: 16\n", "# @package _global_"),
        ("# @package _global_\nnetwrok:\n  channels: 16\n", "did you mean network?"),
        ("# @package _global_\nnetwork:\n  chanels: 16\n", None),  # the constructor's to refuse
    ],
)
def test_experiment_that_would_not_be_obeyed_is_refused(
    tmp_path: Path, text: str, said: str | None
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(text)
    if said is None:
        compose(["experiment=mine"], config_dir=tmp_path)
        return
    with pytest.raises(UserError) as refused:
        compose(["experiment=mine"], config_dir=tmp_path)
    assert said in str(refused.value)
