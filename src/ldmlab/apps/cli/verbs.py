"""The table of verbs: summary, examples and module of each.

Nothing heavy is imported here, so that `--help` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal


@dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
        name: What the user types.
        summary: One line for `ldmlab --help`.
        examples: Commands, each with what it does.
        base: The key that names the run or file to compose on, in the place of the quickstart;
            None for a verb that has no such key.
        keeps_model: Whether the run's trained model is used, so that it cannot be exchanged.
        trains: Whether it may be handed to SLURM.
        module: Where its `run` is, other than in commands/.
        alone: Keys that it also works with in the place of a run, on a data set's configuration.
    """

    name: str
    summary: str
    examples: tuple[tuple[str, str], ...]
    base: Literal["run", "config"] | None = None
    keeps_model: bool = False
    trains: bool = False
    module: str | None = None
    alone: tuple[str, ...] = ()

    @property
    def config(self) -> str:
        """Name of its primary configuration, a file of conf/."""
        return "config" if self.name == "train" else self.name

    def load(self) -> Any:
        """Import the function that takes the configuration; it gives an exit code or None."""
        return import_module(self.module or f"ldmlab.apps.commands.{self.name}").run


_TABLE = (
    Verb(
        "train",
        "Train both stages, or one, of an experiment.",
        (
            ("ldmlab train", "the quickstart: autoencoder, diffusion, samples, metric card"),
            ("ldmlab train name=mine trainer=gpu", "a run of your own, on a GPU"),
            ("ldmlab train stage=diffusion codec.run=runs/a/autoencoder/latest", "one stage"),
            ("ldmlab train stages.diffusion.lr=1e-4 debug=fast", "change a value, an option"),
            ("ldmlab train -m seed=1,2,3", "several runs, one after the other"),
            ("ldmlab train --cfg job", "show the configuration, run nothing"),
            ("ldmlab train config=runs/a/diffusion/latest/config.yaml run_id=again", "repeat"),
            ("ldmlab train stage=diffusion stages.diffusion.weights=R codec.run=R", "fine-tune"),
        ),
        base="config",
        trains=True,
    ),
    Verb(
        "sample",
        "Draw images from a trained run.",
        (
            ("ldmlab sample run=runs/quickstart/diffusion/latest", "images and a grid"),
            ("ldmlab sample run=R prompt=a red house, on the left", "text is taken literally"),
            ("ldmlab sample run=R sampler=ddim sampler.steps=50", "another sampler"),
            ("ldmlab sample run=R guidance.scale=4 seed=7 out=images", "stronger guidance"),
            ("ldmlab sample run=R image=a.png strength=0.5", "a picture, half drawn again"),
            ("ldmlab sample run=R image=a.png inpaint=mask.png", "its white part painted anew"),
        ),
        base="run",
        keeps_model=True,
    ),
    Verb(
        "evaluate",
        "Judge a trained run, or anyone's images, and write a metric card.",
        (
            ("ldmlab evaluate run=runs/quickstart/diffusion/latest", "every metric of the run"),
            ("ldmlab evaluate run=R sampler=ddim sampler.steps=20", "with another sampler"),
            ("ldmlab evaluate run=R metrics=[bits_per_dim]", "likelihood by bound and by ODE"),
            ("ldmlab evaluate run=R metrics=[bits_per_dim] density=realnvp", "and of a flow"),
            ("ldmlab evaluate run=R metrics=[fid,kid,rfid] num_samples=50000", "by Inception"),
            ("ldmlab evaluate samples=A reference=B metrics=[fid,kid]", "two folders or npz"),
            ("ldmlab evaluate train_judge=true data=digits", "a judge of one's own images"),
            ("ldmlab evaluate run=R train_judge=true metrics=[fd_judge]", "and what it says of R"),
        ),
        base="run",
        alone=("samples", "train_judge"),
        keeps_model=True,
    ),
    Verb(
        "sweep",
        "Search the values that make a metric best; start it several times to search faster.",
        (
            ("ldmlab sweep sweep=optuna_lr n_trials=20", "the learning rate of stage two"),
            ("ldmlab sweep sweep=optuna_lr n_trials=40", "twenty more: nothing is done twice"),
            ("ldmlab sweep sweep=optuna_guidance sweep.metric=caption_accuracy", "by the card"),
            ("ldmlab sweep sweep.metric=val/loss stages.diffusion.lr=interval(1e-4,1e-2)", "own"),
        ),
        module="ldmlab.apps.sweep.search",
        base="config",
        trains=True,
    ),
    Verb(
        "encode",
        "Write the latents of an experiment's images, for faster trainings of stage two.",
        (
            ("ldmlab encode experiment=quickstart", "with the experiment's own stage one"),
            ("ldmlab encode data=celebahq data.root=faces codec.run=R out=latents", "by run R"),
            ("ldmlab encode data=landscapes data.root=L crops=8", "eight of the random crops"),
            ("ldmlab encode data.flip=false dtype=bf16", "no mirror images, another type"),
        ),
    ),
    Verb(
        "describe",
        "Say how large an experiment is: weights, latents, schedule, FLOPs, memory.",
        (
            ("ldmlab describe experiment=laion", "1.45 billion weights, in seconds, on a laptop"),
            ("ldmlab describe experiment=celebahq network.channels=128", "with other values"),
            ("ldmlab describe experiment=imagenet format=json", "for programs"),
        ),
    ),
    Verb(
        "report",
        "Write one page about a run: curves, pictures, card, what was changed, warnings.",
        (
            ("ldmlab report run=runs/quickstart/diffusion/latest", "report.html in the run"),
            ("ldmlab report run=R out=mine.html", "another file, to be sent as it is"),
            ("ldmlab report run=R against=celebahq", "what differs from that experiment"),
        ),
    ),
    Verb(
        "verify",
        "Hold the paper's experiments against their published numbers.",
        (
            ("ldmlab verify", "all of them; exit code 1 where a number differs"),
            ("ldmlab verify only=[celebahq,laion]", "some of them"),
            ("ldmlab verify format=json", "for programs"),
            ("ldmlab verify path=numbers.yaml", "against numbers of your own"),
        ),
    ),
    Verb(
        "data",
        "Check a data set on disk, make a small valid specimen of one, or a tokenizer for it.",
        (
            ("ldmlab data action=check data=imagenet data.root=/data/imagenet", "read every file"),
            ("ldmlab data action=make data=celebahq out=specimen", "a small valid data set"),
            ("ldmlab data action=make data=imagenet form=tars out=specimen", "in another form"),
            ("ldmlab data action=tokenizer data=laion data.root=R out=words", "from its captions"),
        ),
    ),
    Verb(
        "convert",
        "Bring a published model in as a run, or take a run out.",
        (
            ("ldmlab convert compvis=model.ckpt config=config.yaml out=runs/faces", "CompVis"),
            ("ldmlab convert compvis=C config=Y vocabulary=vocab.txt out=O", "one of captions"),
            ("ldmlab convert run=runs/mine/diffusion/latest to=diffusers out=O", "a pipeline"),
            ("ldmlab convert run=R to=safetensors out=O", "bare tensors and config.json"),
            ("ldmlab convert diffusers=folder out=O", "a pipeline of diffusers as a run"),
        ),
    ),
)

VERBS: dict[str, Verb] = {verb.name: verb for verb in _TABLE}
