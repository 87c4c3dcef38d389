"""Parts of the user's own, from a folder of configurations, used without a fork."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PARTS = '''
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import Dataset

from ldmlab.conditioning.conditioner import Conditioner
from ldmlab.core.random import SampleNoise
from ldmlab.core.records import Batch, Conditioning
from ldmlab.diffusion.samplers.sampler import Sampler
from ldmlab.evaluation.protocol import Evaluation


class Stripes(Dataset):
    """Stripes whose class is their direction."""

    classes = ("right", "down")

    def __init__(self, image_size, num_samples):
        self.image_size, self.num_samples = image_size, num_samples

    def __len__(self):
        return self.num_samples

    def __getitems__(self, indices):
        ramp = torch.linspace(-1, 1, self.image_size).expand(self.image_size, -1)
        kinds = torch.tensor([int(i) % 2 for i in indices])
        image = torch.stack([(ramp if k == 0 else ramp.T).expand(3, -1, -1) for k in kinds])
        return Batch(index=torch.tensor([int(i) for i in indices]), image=image, label=kinds)

    def captions(self, indices):
        return None


class Network(nn.Module):
    """One convolution, of images of any size."""

    def __init__(self, in_channels, out_channels, token_dim, vector_dim, width: int = 8):
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.condition = nn.Linear(vector_dim, width)
        self.last = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, x, time, tokens=None, vector=None):
        hidden = self.first(x) + self.condition(vector)[..., None, None]
        return self.last(torch.tanh(hidden + 0.001 * time.reshape(-1, 1, 1, 1)))


class OneHot(Conditioner):
    """The class as a vector of zeros and a one."""

    input_key, vector_dim = "label", 2

    def __init__(self, spec, factor):
        super().__init__()
        assert spec.num_classes == 2

    def select(self, batch):
        return batch.label

    def null(self, condition):
        return torch.full_like(condition, -1)

    def forward(self, condition):
        return Conditioning(vector=(condition[:, None] == torch.arange(2)).float())


@dataclass(frozen=True)
class Anew(Sampler):
    """Noise anew at every step."""

    def __call__(self, denoiser, x, timesteps, schedule, noise, on_step=None):
        for t, s in pairwise(timesteps):
            level = schedule.level(s)
            x = float(level.alpha) * denoiser(x, t).x0 + float(level.sigma) * noise.normal(x)
        return x


class Brightness(Evaluation):
    """The mean of a few samples."""

    def protocol(self):
        return {"data": "stripes"}

    def __call__(self, subject, on_progress):
        asked = Batch(index=torch.arange(2), label=torch.arange(2))
        images = subject.model.sample(
            asked, subject.spec.image_size, subject.sampler, SampleNoise(0, range(2))
        )
        return {"brightness": {"value": float(images.mean()), "samples": 2}}


class Count(L.Callback):
    """Counts steps over interruptions."""

    def __init__(self, path: str):
        self.path, self.steps = Path(path), 0

    @property
    def state_key(self):
        return f"Count of {self.path}"

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.steps += 1

    def on_train_end(self, trainer, pl_module):
        self.path.write_text(str(self.steps))

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


class Log(CSVLogger):
    """Lightning's own, under another name."""
'''

CONF = {
    "data/stripes.yaml": """
image_size: 8
channels: 3
num_classes: 2
num_mask_labels: null
vocabulary_size: null
train: {_target_: my_parts.Stripes, image_size: "${data.image_size}", num_samples: 16}
validation: {_target_: my_parts.Stripes, image_size: "${data.image_size}", num_samples: 4}
num_workers: 0
""",
    "network/mine.yaml": "_target_: my_parts.Network\nwidth: 4\n",
    "conditioner/one_hot.yaml": "_target_: my_parts.OneHot\n",
    "sampler/anew.yaml": "_target_: my_parts.Anew\nsteps: 3\n",
    "evaluation/brightness.yaml": "_target_: my_parts.Brightness\n",
    "callbacks/mine.yaml": """
defaults: [default]
count: {_target_: my_parts.Count, path: counted.txt}
""",
    "logger/mine.yaml": "wandb: null\nlog: {_target_: my_parts.Log, save_dir: logged}\n",
    "experiment/mine.yaml": """
# @package _global_
defaults:
  - override /data: stripes
  - override /network: mine
  - override /conditioner: one_hot
  - override /sampler: anew
  - override /evaluation: brightness
  - override /callbacks: mine
  - override /logger: mine
  - override /codec: identity
name: mine
stages: {diffusion: {max_steps: 3, batch_size: 4, val_every: 3}}
""",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / "my_parts.py").write_text(PARTS)
    for name, text in CONF.items():
        (home / "my_conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "my_conf" / name).write_text(text)
    return home


def ldmlab(*arguments: str, at: Path, **variables: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "ldmlab", *arguments]
    done = subprocess.run(
        command, cwd=at, env={**os.environ, **variables}, capture_output=True, text=True
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    code, err = ldmlab("train", "--config-dir", "my_conf", "experiment=mine", "run_id=a", at=home)
    assert code == 0, err
    return home / "runs/mine/diffusion/a"


def test_own_parts_train_and_resume(run: Path, home: Path) -> None:
    assert (home / "counted.txt").read_text() == "3"
    assert list((home / "logged").rglob("metrics.csv"))
    card = json.loads((run / "card.json").read_text())
    assert "brightness" in card["metrics"]
    code, err = ldmlab(
        "train", "--config-dir=my_conf", "experiment=mine", "run_id=a",
        "stages.diffusion.max_steps=5", at=home,
    )  # fmt: skip
    assert code == 0, err
    assert "continuing" in err and (home / "counted.txt").read_text() == "5"
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert state["model.network.backbone.first.weight"].shape == (4, 3, 3, 3)
    assert int(state["steps"]) == 5


def test_own_parts_decide_the_run_id(run: Path, home: Path) -> None:
    identity = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["metadata"]["identity"]
    assert identity["network._target_"] == "my_parts.Network" and identity["network.width"] == 4
    assert not any("Count" in str(value) for value in identity.values())


@pytest.mark.slow
def test_a_run_of_own_parts_needs_trust_elsewhere(run: Path, home: Path, tmp_path: Path) -> None:
    ask = ["sample", f"run={run}", "labels=1", "num_samples=2"]
    code, err = ldmlab(*ask, "out=refused", at=tmp_path, PYTHONPATH=str(home))
    assert code == 2 and err.count("\n") == 1
    assert "trust=[my_parts]" in err and not (tmp_path / "refused").exists()
    for k, more in enumerate((["trust=[my_parts]"], [f"--config-dir={home / 'my_conf'}"])):
        code, err = ldmlab(*ask, f"out=drawn{k}", *more, at=tmp_path, PYTHONPATH=str(home))
        assert code == 0, err
    code, err = ldmlab(
        *ask, "out=drawn2", at=tmp_path, PYTHONPATH=str(home), LDMLAB_TRUST="my_parts"
    )
    assert code == 0, err
    drawn = [(tmp_path / f"drawn{k}" / "00001.png").read_bytes() for k in range(3)]
    assert drawn[0] == drawn[1] == drawn[2]
    # The class of another package stays outside.
    code, err = ldmlab(*ask, "trust=[my_part]", at=tmp_path, PYTHONPATH=str(home))
    assert code == 2 and "my_parts" in err


@pytest.mark.slow
def test_a_callback_typed_on_the_command_line_is_used(run: Path, home: Path) -> None:
    typed = "+callbacks.typed._target_=my_parts.Count"
    code, err = ldmlab(
        "train", "--config-dir=my_conf", "experiment=mine", "run_id=b", typed,
        "+callbacks.typed.path=typed.txt", at=home,
    )  # fmt: skip
    assert code == 0, err
    assert (home / "typed.txt").read_text() == "3"
    code, err = ldmlab("train", "+callbacks.typed._target_=my_parts.Nothing", at=home)
    assert code == 2 and "my_parts.Nothing" in err and err.count("\n") == 1
