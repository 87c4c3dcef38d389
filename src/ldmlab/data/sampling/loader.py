"""Batches of a data set, loaded by other processes where asked for."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ldmlab.core.errors import UserError
from ldmlab.core.records import Batch
from ldmlab.data.sampling.datasets import BatchDataset

# What a terminal or a cluster sends to every process of a run, and only the main one answers.
_NOT_FOR_LOADERS = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)
# Seconds that a loader outlives SIGTERM: the run saves its step meanwhile.
_GRACE = 30.0
# Seconds after which the death of a loader is known whose connection broke.
_NEWS = 1.0


class _Answer(Dataset[Any]):
    """A data set whose mistakes of the user cross the border of a loading process in one piece.

    A DataLoader would raise them anew with a traceback for their message.

    Args:
        dataset: Where the samples come from.
    """

    def __init__(self, dataset: BatchDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, indices: list[int]) -> Batch | UserError:
        """The samples, or what is wrong with them."""
        try:
            batch = self.dataset.__getitems__(indices)
            if get_worker_info() is not None:
                _share(batch)
            return batch
        except UserError as error:
            return error


class _Loader(DataLoader[Any]):
    """Raises the mistakes that loading processes answer with."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        with _spared():
            answers = super().__iter__()
        with told_if_loader_died():
            for answer in _waiting_for_news_of_death(answers):
                if isinstance(answer, UserError):
                    raise answer
                yield answer


@contextmanager
def told_if_loader_died() -> Iterator[None]:
    """Tell in one line that a loading process is gone.

    torch says so from a signal's handler, wherever the main process is at that moment.

    Raises:
        UserError: It was killed, or has ended by itself.
    """
    try:
        yield
    except RuntimeError as error:
        words = str(error)
        if not words.startswith("DataLoader worker"):
            raise
        if threading.current_thread() is threading.main_thread():
            # torch would say it again at each later death of any child, in the middle of the end.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise UserError(
            f"a process that loads data has ended ({words.splitlines()[0].rstrip('. ')}), for lack "
            "of memory perhaps: lower data.num_workers or the batch size; the same command then "
            "goes on"
        ) from error


def _waiting_for_news_of_death(answers: Iterator[Any]) -> Iterator[Any]:
    """Let a signal's handler tell of a death whose first trace is a broken connection."""
    try:
        yield from answers
    except (EOFError, ConnectionError):
        time.sleep(_NEWS)
        raise


def _as_it_is(answer: Any) -> Any:
    return answer


def _share(batch: Batch) -> None:
    """Move tensors into the memory that processes share.

    A DataLoader does it behind the answer, where its failure is lost and the batch waited for.

    Raises:
        UserError: There is too little of it.
    """
    try:
        batch.share_memory()
    except RuntimeError as error:
        if "shared memory" not in str(error):
            raise
        raise UserError(
            "/dev/shm is too small for data.num_workers processes that load data: enlarge it "
            "(docker run --shm-size=2g), lower data.num_workers, or take data.num_workers=0"
        ) from error


@contextmanager
def _spared() -> Iterator[None]:
    """Start processes that do not hear the signals that are meant for the run."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_LOADERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _outlive(number: int) -> None:
    """Let a loader end some time after it was asked to, or with its parent as ever."""
    signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, _GRACE))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))


def batch_loader(
    dataset: BatchDataset,
    batches: Iterable[list[int]],
    num_workers: int = 0,
    pin_memory: bool = False,
    seed: int = 0,
) -> DataLoader[Any]:
    """Batches of a data set, loaded by other processes where asked for.

    Args:
        dataset: Where the samples come from.
        batches: The positions of each batch.
        num_workers: Processes that load.
        pin_memory: Whether batches come in page-locked memory.
        seed: Seed of what the processes draw.
    """
    return _Loader(
        _Answer(dataset),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=_outlive,
        # Starting workers draws a number: not from the generator that training goes on with.
        generator=torch.Generator().manual_seed(seed),
    )
