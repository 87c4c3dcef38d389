"""`ldmlab describe`: the same numbers that building in memory gives."""

from __future__ import annotations

import json
import math

import pytest

from ldmlab.apps.build.experiment import build_codec, build_model, data_spec
from ldmlab.apps.build.meta import draw_blueprint
from ldmlab.apps.cli import main as cli
from ldmlab.apps.config.compose import compose
from ldmlab.models.sizes import describe


def test_describe_agrees_with_the_built_quickstart() -> None:
    cfg = compose(["experiment=quickstart"])
    described = describe(draw_blueprint(cfg))
    spec = data_spec(cfg)
    codec = build_codec(cfg, spec)
    model = build_model(cfg, spec, codec)
    weights = described["weights"]
    assert weights["network"] == sum(p.numel() for p in model.network.parameters())
    assert weights["autoencoder"] == sum(p.numel() for p in codec.parameters())
    assert weights["autoencoder"] == sum(weights[k] for k in ("encoder", "bottleneck", "decoder"))
    assert weights["network"] == weights["unet"] + weights["conditioner"]
    latents = described["latents"]
    assert (latents["channels"], latents["height"], latents["width"]) == (8, 8, 8)
    schedule = described["schedule"]
    ends = [schedule["alpha_bar_first"], schedule["alpha_bar_last"]]
    assert ends == pytest.approx([1 - 4.1284225e-5, 2.428766907e-09], rel=1e-7)
    logits = [math.log(a) - math.log1p(-a) for a in ends]
    got = [schedule["log_snr_first"], schedule["log_snr_last"]]
    assert got == pytest.approx(logits, rel=1e-6)


def test_describe_gives_json_for_the_largest_model(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["describe", "experiment=laion", "format=json"])
    described = json.loads(capsys.readouterr().out)
    trained = 1_454_294_526 - 39_098_682  # without the projection that is kept and frozen
    assert described["weights"]["network"] == 1_454_294_526
    memory = described["memory_bytes"]
    assert memory["weights"] == memory["gradients"] == 4 * trained
    assert memory["optimizer_at_most"] == 8 * trained
    assert memory["frozen_weights"] == 4 * (83_653_863 + 39_098_682)
    assert memory["average_of_weights"] == 4 * 1_454_294_526
    parts = ("weights", "gradients", "optimizer_at_most", "frozen_weights", "average_of_weights")
    assert memory["without_activations"] == sum(memory[part] for part in parts)
    flops = described["flops"]
    assert flops["unet"] == pytest.approx(182.1e9, rel=1e-3)
    step = 3 * (flops["unet"] + flops["conditioner"])
    assert flops["training_step_of_an_image"] == step
    assert flops["training_step_of_680"] == 680 * step


def test_describe_covers_the_autoencoder_stage_alone(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["describe", "experiment=quickstart", "stage=autoencoder"])
    said = capsys.readouterr().out
    assert "encoder" in said and "GFLOP" in said and "unet" not in said and "schedule" not in said
    described = describe(draw_blueprint(compose(["experiment=quickstart", "stage=autoencoder"])))
    assert described["memory_bytes"]["activations_of_an_image"] > 0
    assert described["training"]["stage"] == "autoencoder"


def test_describe_gives_null_for_an_infinite_log_snr() -> None:
    cfg = compose(["experiment=quickstart", "schedule=zero_terminal_snr"])
    schedule = describe(draw_blueprint(cfg))["schedule"]
    assert (schedule["alpha_bar_last"], schedule["log_snr_last"]) == (0.0, None)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("experiment=laoin", "did you mean laion"),
        ("fromat=json", "did you mean format"),
        ("network.chanels=8", "did you mean network.channels"),
        ("format=xml", "format must be table or json"),
    ],
)
def test_describe_mistake_is_reported_in_one_line(
    capsys: pytest.CaptureFixture[str], argument: str, words: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["describe", argument])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and words in said and said.count("\n") == 1
