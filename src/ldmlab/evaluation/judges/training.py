"""Training of a judge on real images: their classes where they have any, else their turns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import pad

from ldmlab.core.errors import UserError
from ldmlab.core.random import derive_seed
from ldmlab.core.ranges import natural, positive, positive_int
from ldmlab.evaluation.images.dataset import digest_of
from ldmlab.evaluation.images.image_set import ImageSet
from ldmlab.evaluation.judges.network import JudgeBody, JudgeFacts, seen_by_judge, untrained
from ldmlab.evaluation.preprocessing import resize
from ldmlab.evaluation.protocol import OnProgress

_SIZES = (32, 64)  # sides of a judge's input: of small images, and of others
_TURNS = ("0 degrees", "90 degrees", "180 degrees", "270 degrees")
_CHUNK = 256


@dataclass(frozen=True)
class JudgeTrainer:
    """How judges are trained.

    Attributes:
        max_steps: Batches.
        batch_size: Images in a batch.
        lr: Largest rate of AdamW, on one cycle.
        limit: Training images at most, at equal distances in the set; they lie in memory.
        seed: Of the weights and the batches.
    """

    max_steps: int = 500
    batch_size: int = 64
    lr: float = 3e-3
    limit: int = 20000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        positive_int(max_steps=self.max_steps, batch_size=self.batch_size, limit=self.limit)
        positive(lr=self.lr)
        natural(seed=self.seed)

    def identity(self, train: ImageSet, held_out: ImageSet) -> str:
        """Sixteen hexadecimal digits that name the judge that this would train."""
        return digest_of({**vars(self), "data": _data(train, held_out)})

    def __call__(
        self,
        train: ImageSet,
        held_out: ImageSet,
        device: torch.device,
        on_progress: OnProgress,
    ) -> tuple[JudgeBody, JudgeFacts]:
        """Train on one set and test on another.

        Args:
            train: Real images.
            held_out: Others of the same kind.
            device: Where to compute.
            on_progress: Called with the steps made and those to make.

        Returns:
            The judge in evaluation mode, and what it is.

        Raises:
            UserError: The sets are too small, or one of them has no classes.
        """
        images, labels = self._load(train)
        others, answers = self._load(held_out)
        if labels is not None and answers is None:
            raise UserError(f"{train.name} has classes, and {held_out.name} has none")
        classes = _TURNS if labels is None else _names(train.classes, labels)
        body = untrained(len(classes), derive_seed("judge", self.seed)).to(device)
        self._fit(body, images, labels, device, on_progress)
        body.eval()
        share = _accuracy(body, others, answers, device)
        facts = JudgeFacts(
            "rotations" if labels is None else "classes",
            tuple(classes),
            images.shape[-1],
            share,
            len(others),
            len(images),
            _data(train, held_out),
            self.max_steps,
            self.seed,
        )
        return body.cpu(), facts

    def _load(self, images: ImageSet) -> tuple[UInt8[Tensor, "n 3 s s"], Int[Tensor, " n"] | None]:
        """A set in memory, as the judge sees it."""
        if len(images) < 2:
            raise UserError(f"{images.name} has too few images for a judge: {len(images)}")
        count = min(self.limit, len(images))
        rows = [k * len(images) // count for k in range(count)]
        small, large = _SIZES
        size = 0
        seen: list[Tensor] = []
        labels: list[Tensor] = []
        for row in rows:
            pictures = images.read(range(row, row + 1))
            picture = pictures.images[0][None]
            size = size or (large if min(picture.shape[-2:]) >= large else small)
            seen.append(resize(picture, size, "torch_antialias").round().to(torch.uint8))
            if pictures.labels is not None:
                labels.append(pictures.labels)
        return torch.cat(seen), torch.cat(labels) if labels else None

    def _fit(
        self,
        body: JudgeBody,
        images: UInt8[Tensor, "n 3 s s"],
        labels: Int[Tensor, " n"] | None,
        device: torch.device,
        on_progress: OnProgress,
    ) -> None:
        """One cycle over random batches of shifted images."""
        optimizer = torch.optim.AdamW(body.parameters(), lr=self.lr, weight_decay=0.05)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.lr, total_steps=self.max_steps + 1
        )
        loss = nn.CrossEntropyLoss(label_smoothing=0.05)
        generator = torch.Generator().manual_seed(derive_seed("judge batches", self.seed))
        body.train()
        for step in range(self.max_steps):
            rows = torch.randint(len(images), (self.batch_size,), generator=generator)
            batch = _shifted(images[rows].float(), generator)
            if labels is None:
                turns = torch.randint(len(_TURNS), (len(rows),), generator=generator)
                batch, wanted = _turned(batch, turns), turns
            else:
                wanted = labels[rows]
            answers = body(seen_by_judge(batch.to(device)))["logits"]
            optimizer.zero_grad()
            loss(answers, wanted.to(device)).backward()
            optimizer.step()
            cycle.step()
            on_progress(step + 1, self.max_steps)


def _data(train: ImageSet, held_out: ImageSet) -> str:
    sets = {"train": train.fingerprint(), "held_out": held_out.fingerprint()}
    return digest_of({**sets, "classes": list(train.classes)})


def _names(classes: tuple[str, ...], labels: Int[Tensor, " n"]) -> tuple[str, ...]:
    """A name for every number that occurs, at least."""
    needed = int(labels.max()) + 1
    return (*classes, *(str(k) for k in range(len(classes), needed)))


def _shifted(
    images: Float[Tensor, "b 3 s s"], generator: torch.Generator
) -> Float[Tensor, "b 3 s s"]:
    """Each moved by up to an eighth of its side; classes may depend on sides, so none mirrored."""
    side = images.shape[-1]
    reach = side // 8
    padded = pad(images, [reach] * 4, mode="replicate")
    places = torch.randint(2 * reach + 1, (len(images), 2), generator=generator).tolist()
    cut = [p[:, y : y + side, x : x + side] for p, (y, x) in zip(padded, places, strict=True)]
    return torch.stack(cut)


def _turned(images: Float[Tensor, "b 3 s s"], turns: Int[Tensor, " b"]) -> Tensor:
    pairs = zip(images, turns.tolist(), strict=True)
    return torch.stack([image.rot90(turn, (1, 2)) for image, turn in pairs])


@torch.inference_mode()
def _accuracy(
    body: JudgeBody,
    images: UInt8[Tensor, "n 3 s s"],
    labels: Int[Tensor, " n"] | None,
    device: torch.device,
) -> float:
    """Share of right answers; of images without classes, each turn is asked for."""
    right = total = 0
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK].float()
        if labels is not None:
            asked = [(part, labels[start : start + _CHUNK])]
        else:
            turns = [torch.full((len(part),), turn) for turn in range(len(_TURNS))]
            asked = [(_turned(part, turn), turn) for turn in turns]
        for batch, wanted in asked:
            found = body(seen_by_judge(batch.to(device)))["logits"].argmax(1).cpu()
            right += int((found == wanted).sum())
            total += len(wanted)
    return right / total
