"""What users write down: public names, verbs and groups. It changes on purpose only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import ldmlab
from ldmlab.apps.cli.verbs import VERBS
from ldmlab.apps.config.conf_dir import conf_dir

NAMES = """
    Autoencoder AutoencoderModule CelebAHQDataModule DiffusionModule DigitsDataModule Experiment
    ImageFolderDataModule ImageNetDataModule LaionDataModule LandscapesDataModule LatentDiffusion
    Pipeline UserError VistasDataModule build compose load
"""
VERB_NAMES = "convert data describe encode evaluate report sample sweep train verify"
GROUPS = """
    autoencoder bottleneck callbacks codec conditioner data debug density discriminator ema
    evaluation experiment guidance hydra launcher loader logger lr_schedule network optimizer
    parameterization paths perceptual sampler schedule sweep timestep_sampler trainer weighting
"""


def test_public_names_change_only_on_purpose() -> None:
    assert sorted(ldmlab.__all__) == NAMES.split()
    assert set(ldmlab.__all__) <= set(dir(ldmlab))


def test_public_verbs_change_only_on_purpose() -> None:
    assert sorted(VERBS) == VERB_NAMES.split()


def test_public_groups_change_only_on_purpose() -> None:
    assert sorted(path.name for path in conf_dir().iterdir() if path.is_dir()) == GROUPS.split()


def test_each_public_name_is_what_type_checkers_are_told() -> None:
    tree = ast.parse(Path(ldmlab.__file__).read_text())
    told = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ldmlab.")
        for alias in node.names
    }
    assert sorted(told) == NAMES.split()
    for name, home in told.items():
        found = getattr(ldmlab, name)
        assert f"{found.__module__}.{found.__qualname__}" == home


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import ldmlab, json; dir(ldmlab)\n"
        "assert time.perf_counter() - start < 1\n"
        "from ldmlab import UserError\n"
        "print(sorted({'torch', 'numpy', 'lightning', 'hydra', 'omegaconf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_py_typed_ships() -> None:
    assert Path(ldmlab.__file__).with_name("py.typed").read_text() == ""
