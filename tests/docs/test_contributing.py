"""The recipes of CONTRIBUTING, followed in a copy of the tree and tried in a whole run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.test_training import TINY

ROOT = Path(__file__).parents[2]

ADDITIONS = {
    "src/ldmlab/diffusion/samplers/own.py": '''
from dataclasses import dataclass
from itertools import pairwise

from ldmlab.diffusion.samplers.sampler import Sampler


@dataclass(frozen=True)
class Own(Sampler):
    """Noise anew at every step, as a consistency model is sampled."""

    def __call__(self, denoiser, x, times, schedule, noise, on_step=None):
        for i, (t, s) in enumerate(pairwise(times)):
            level = schedule.level(s)
            x = float(level.alpha) * denoiser(x, t).x0 + float(level.sigma) * noise.normal(x)
            if on_step is not None:
                on_step(i + 1, x)
        return x
''',
    "conf/sampler/own.yaml": """
# Noise anew at every step.
_target_: ldmlab.diffusion.samplers.own.Own
steps: 4
""",
    "src/ldmlab/data/own.py": '''
import torch
from torch.utils.data import Dataset

from ldmlab.core.records import Batch


class Ramps(Dataset):
    """Grey ramps whose class is their direction."""

    channels, classes, mask_labels = 3, ("right", "down"), ()

    def __init__(self, image_size, num_samples):
        self.image_size, self.num_samples = image_size, num_samples

    def __len__(self):
        return self.num_samples

    def __getitems__(self, indices):
        ramp = torch.linspace(-1, 1, self.image_size)
        kinds = torch.tensor([int(i) % 2 for i in indices])
        across = ramp.expand(self.image_size, -1)
        image = torch.stack([(across if k == 0 else across.T).expand(3, -1, -1) for k in kinds])
        return Batch(index=torch.tensor([int(i) for i in indices]), image=image, label=kinds)

    def captions(self, indices):
        return None
''',
    "conf/data/own.yaml": """
# Grey ramps.
image_size: 16
channels: 3
num_classes: 2
num_mask_labels: null
vocabulary_size: null
train: {_target_: ldmlab.data.own.Ramps, image_size: "${data.image_size}", num_samples: 64}
validation: {_target_: ldmlab.data.own.Ramps, image_size: "${data.image_size}", num_samples: 16}
in_memory: true
limit: null
num_workers: 0
""",
    "src/ldmlab/conditioning/own.py": '''
import torch
from torch import nn

from ldmlab.conditioning.conditioner import Conditioner, require
from ldmlab.core.records import Conditioning


class Signed(Conditioner):
    """Two classes as the sign of one learned vector, 0 for none."""

    input_key = "label"

    def __init__(self, dim):
        super().__init__()
        self.token_dim = dim
        self.vector = nn.Parameter(torch.randn(dim))

    @classmethod
    def for_data(cls, spec, factor, dim):
        return cls(dim)

    def select(self, batch):
        return require(batch.label, "class label", "own") * 2 - 1

    def null(self, condition):
        return torch.zeros_like(condition)

    def forward(self, condition):
        return Conditioning(tokens=condition[:, None, None] * self.vector)
''',
    "conf/conditioner/own.yaml": """
# Two classes as a sign.
_target_: ldmlab.conditioning.own.Signed.for_data
dim: 24
""",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout with a sampler, a data set and a conditioner of somebody's own."""
    tree = tmp_path_factory.mktemp("tree")
    for part in ("src", "conf"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in ADDITIONS.items():
        (tree / path).write_text(text.lstrip())
    return tree


@pytest.mark.slow
def test_contributing_recipes_train_and_sample(tree: Path) -> None:
    own = ["data=own", "conditioner=own", "sampler=own", "evaluation=none", "name=own"]
    tiny = [o for o in TINY if not o.startswith(("data.", "evaluation."))]
    run = [sys.executable, "-m", "ldmlab"]
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    for command in (
        ["train", "paths.runs=runs", *own, *tiny],
        ["sample", "run=runs/own/diffusion/latest", "num_samples=2", "out=pictures"],
    ):
        done = subprocess.run(
            [*run, *command], cwd=tree, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tree / "pictures").glob("0*.png"))) == 2
