"""The paper's experiments: what they are made of, and what `ldmlab verify` says of them."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from ldmlab.apps.build.check import check_experiment
from ldmlab.apps.build.experiment import build_optimizer
from ldmlab.apps.build.meta import draw_blueprint
from ldmlab.apps.cli import main as cli
from ldmlab.apps.commands.verify import read_published
from ldmlab.apps.config.compose import compose
from ldmlab.apps.config.conf_dir import conf_dir, options
from ldmlab.apps.config.instantiate import build
from ldmlab.diffusion.schedule import scaled_linear
from ldmlab.models.published import PACKAGED, QUANTITIES
from tests.config.paper import PAPER

OWN = {"own", "own_small", "own_medium", "own_large"}
OURS = {"digits", "quickstart", "quickstart_long", "vq_f2", "vq_f32", *OWN}


@pytest.mark.slow
def test_experiments_match_published_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["verify", "format=json"])
    findings = json.loads(capsys.readouterr().out)
    assert [finding for finding in findings if not finding["agrees"]] == []
    assert {finding["experiment"] for finding in findings} == set(read_published(PACKAGED))
    assert {finding["quantity"] for finding in findings} == set(QUANTITIES)


def test_every_paper_experiment_has_published_numbers() -> None:
    published = read_published(PACKAGED)
    assert set(options()["experiment"]) == OURS | set(published)
    assert {"celebahq", "imagenet", "landscapes", "laion"} <= set(published)
    assert all(numbers["source"] for numbers in published.values())


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ("autoencoder: 55_312_064", "autoencoder: built 55,312,063, published 55,312,064"),
        ("encode_gflops: 350", "encode_gflops: built 345.4, published 350"),
        ("latent: [3, 32, 32]", "latent: built 3x64x64, published 3x32x32"),
        ("lr: 4.6e-5", "lr: built 4.5e-05, published 4.6e-05"),
        ("unet: 1", "unet: built None, published 1"),
        ("gflops: 1.0", "gflops: built None, published 1"),
    ],
)
def test_verify_reports_a_wrong_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], numbers: str, words: str
) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_text(f"kl_f4:\n  {numbers}\n  batch: 10\n")
    with pytest.raises(SystemExit) as stop:
        cli.main(["verify", f"path={path}"])
    said = capsys.readouterr().out
    assert stop.value.code == 1 and f"kl_f4.{words}" in said
    assert "2 numbers of 1 experiments, 1 wrong" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["only=laoin"], "did you mean laion?"),
        (["format=xml"], "format must be table or json"),
        (["onyl=laion"], "did you mean only?"),
        (["path=nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_verify_mistake_is_reported_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["verify", *arguments])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and words in said and said.count("\n") == 1


def test_verify_refuses_an_unknown_quantity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "numbers.yaml").write_text("kl_f4: {autoencodr: 1}\n")
    with pytest.raises(SystemExit) as stop:
        cli.main(["verify", f"path={tmp_path / 'numbers.yaml'}"])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "did you mean autoencoder?" in said and said.count("\n") == 1


def test_first_stage_losses_match_the_paper() -> None:
    codebook, gaussian = compose(["experiment=celebahq"]), compose(["experiment=laion"])
    assert codebook.stages.autoencoder.reduction == "mean_pixels"
    assert gaussian.stages.autoencoder.reduction == "sum_pixels"
    assert (codebook.bottleneck.num_codes, gaussian.bottleneck.weight) == (8192, 1e-6)
    assert (codebook.discriminator.start, codebook.discriminator.weight) == (0, 0.75)
    assert (gaussian.discriminator.start, gaussian.discriminator.weight) == (50_001, 0.5)
    for cfg in (codebook, gaussian):
        stage = cfg.stages.autoencoder
        assert cfg.stage == "all" and cfg.stages.diffusion.condition_dropout in (0.0, 0.1)
        assert list(stage.betas) == [0.5, 0.9] and stage.weight_decay == 0
        assert stage.lr == stage.discriminator_lr == pytest.approx(4.5e-6 * stage.batch_size)


# conf/experiment/README.md shows these.
@pytest.mark.parametrize(
    ("overrides", "unet"),
    [
        (["network.num_heads=1", "network.head_channels=null"], 274_056_163),
        (["network.attention_factors=[32,16,8]"], 260_976_803),
    ],
)
def test_alternative_celebahq_unets_are_an_override(overrides: list[str], unet: int) -> None:
    blueprint = draw_blueprint(compose(["experiment=celebahq", *overrides]))
    assert blueprint.parameters["unet"] == unet


def test_alternative_landscapes_first_stage_is_an_override() -> None:
    first_stage = ["autoencoder=f8_attention", "bottleneck.latent_channels=4"]
    cfg = compose(["experiment=landscapes", *first_stage, "bottleneck.num_codes=16384"])
    blueprint = draw_blueprint(cfg)
    assert blueprint.latent_shape == (4, 32, 32)
    assert blueprint.parameters["autoencoder"] == 67_717_295


def test_every_paper_leaf_is_used_by_an_experiment() -> None:
    chosen = set()
    for overlay in (conf_dir() / "experiment").rglob("*.yaml"):
        for entry in OmegaConf.load(overlay).get("defaults", []):
            if OmegaConf.is_dict(entry):
                chosen |= {(key.removeprefix("override /"), leaf) for key, leaf in entry.items()}
    groups = [(group, leaf) for group, leaves in options().items() for leaf in leaves]
    papers = [pair for pair in groups if any(fnmatchcase("/".join(pair), p) for p in PAPER)]
    assert len(papers) > 30 and set(papers) <= chosen


@pytest.mark.parametrize("name", ["celebahq", "imagenet", "landscapes", "laion"])
def test_experiment_group_can_be_overridden(name: str) -> None:
    other = ["bottleneck=kl", "discriminator=none", "schedule=cosine", "sampler=ode"]
    cfg = compose([f"experiment={name}", *other, "guidance=none", "conditioner=none"])
    blueprint = draw_blueprint(cfg)
    assert blueprint.discriminator is None and blueprint.parameters["conditioner"] == 0
    assert blueprint.alpha_bar == pytest.approx(2.428766907e-09)
    cfg = compose([f"experiment={name}", "bottleneck=vq", "autoencoder=f16"])
    assert draw_blueprint(cfg).latent_shape[1:] == (16, 16)


@pytest.mark.parametrize("name", ["ffhq", "imagenet", "superresolution", "celebahq", "laion"])
def test_experiments_build_their_sampler_and_guidance(name: str) -> None:
    cfg = compose([f"experiment={name}"])
    sampler, guidance = build(cfg.sampler), build(cfg.guidance)
    assert len(sampler.timesteps(scaled_linear())) == cfg.sampler.steps + 1
    assert getattr(guidance, "scale", None) == (1.5 if name in ("imagenet", "laion") else None)


# Weights of the experiments that nobody has published.
COUNTED = {
    "digits": {"unet": 1_767_553, "conditioner": 1_056},
    "quickstart": {
        "autoencoder": 440_472, "discriminator": 42_961, "unet": 1_773_608, "conditioner": 130_656,
    },
    "quickstart_long": {
        "autoencoder": 824_848, "discriminator": 42_961, "unet": 1_780_528, "conditioner": 130_656,
    },
    "layout_coco": {"autoencoder": 83_653_863, "unet": 312_241_540, "conditioner": 58_858_496},
    "own": {"autoencoder": 588_696, "unet": 3_015_176},
    "own_small": {"autoencoder": 588_696, "unet": 3_015_176},
    "own_medium": {"autoencoder": 7_544_532, "unet": 66_978_696},
    "own_large": {"autoencoder": 83_709_419, "unet": 274_076_328},
    "vq_f2": {"autoencoder": 13_313_937, "discriminator": 2_765_633},
    "vq_f32": {"autoencoder": 103_795_939, "discriminator": 663_361},
}  # fmt: skip


# Those that are built in any case, the others among the slow tests.
FIRST = OURS | {"celebahq", "imagenet", "landscapes", "laion"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FIRST else pytest.mark.slow)
        for name in options()["experiment"]
    ],
)
def test_every_experiment_is_built_on_meta_with_its_number_of_weights(name: str) -> None:
    blueprint = check_experiment(compose([f"experiment={name}"]))
    numbers = COUNTED[name] if name in COUNTED else read_published(PACKAGED)[name]
    parts = {part: numbers[part] for part in blueprint.parameters if part in numbers}
    assert parts and {part: blueprint.parameters[part] for part in parts} == parts
    modules = (blueprint.codec, blueprint.network, blueprint.discriminator)
    weights = [p for module in modules if module is not None for p in module.parameters()]
    assert {p.device.type for p in weights} == {"meta"}
    if blueprint.network is None:
        assert blueprint.codec.factor == int(re.match(r"(vq|kl)_f(\d+)", name)[2])


def test_experiment_files_are_short() -> None:
    for overlay in (conf_dir() / "experiment").rglob("*.yaml"):
        assert len(overlay.read_text().splitlines()) <= 30, overlay


def test_scale_lr_multiplies_by_the_global_batch() -> None:
    weights = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(2))])
    rates = {}
    for rule in ("false", "true"):
        overrides = ["stages.diffusion.lr=2e-6", "stages.diffusion.batch_size=48"]
        cfg = compose(["experiment=celebahq", "data.root=x", f"scale_lr={rule}", *overrides])
        stage = cfg.stages.diffusion
        rates[rule] = build_optimizer(cfg, stage, stage.lr)(weights).param_groups[0]["lr"]
    assert rates == {"false": pytest.approx(2e-6), "true": pytest.approx(9.6e-5)}
