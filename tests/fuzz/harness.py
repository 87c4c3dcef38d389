"""Runs a reader on damaged files in a process of its own, which may crash, hang or swell.

What the reader may raise is documented, with one line to say; anything else fails the test.
"""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

MIB = 1 << 20
SMOKE, MINUTE = 0.0, 60.0  # seconds; the first round is the same in both
SPENDS = [
    pytest.param(SMOKE, id="smoke"),
    pytest.param(MINUTE, id="minute", marks=pytest.mark.slow),
]
_SHOWN = 4096  # bytes of the last input, for the report of a crash


class HangError(BaseException):
    """Reading took too long; no `except Exception` of a reader catches it."""


@dataclass(frozen=True)
class Bounds:
    """What reading one file may cost.

    Attributes:
        memory: Growth of the process's peak memory, in MiB, over all inputs.
        seconds: Processor time for one input.
    """

    memory: int = 256
    seconds: int = 10


def fuzz(
    read: Callable[[Any], object],
    inputs: SearchStrategy[Any],
    allowed: tuple[type[Exception], ...],
    examples: int,
    spend: float = 0.0,
    bounds: Bounds = Bounds(),
) -> None:
    """Read many inputs in a child process.

    Args:
        read: Reads an input.
        inputs: What to read.
        allowed: What it may raise.
        examples: Inputs of the first round, which is always the same; each later one has a seed
            of its own and ten times as many.
        spend: Seconds after which no further round begins.
        bounds: Of memory and time.
    """
    gc.collect()
    last = mmap.mmap(-1, _SHOWN)
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _child(read, inputs, allowed, examples, spend, bounds, last, send)
    os.close(send)
    # A hang that no signal ends is one inside of a library.
    told, status = _wait(child, receive, spend + 60 + 4 * bounds.seconds)
    if told:
        pytest.fail(told, pytrace=False)
    if status != 0:
        shown = last[:].rstrip(b"\0")
        pytest.fail(f"the reader ended its process (status {status}) at {shown!r}", pytrace=False)


def _wait(child: int, receive: int, limit: float) -> tuple[str, int]:
    os.set_blocking(receive, False)
    until = time.monotonic() + limit
    told = b""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        try:
            while part := os.read(receive, 1 << 16):
                told += part
        except BlockingIOError:
            pass
        if pid:
            os.close(receive)
            return told.decode(errors="replace"), os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


def _child(
    read: Callable[[Any], object],
    inputs: SearchStrategy[Any],
    allowed: tuple[type[Exception], ...],
    examples: int,
    spend: float,
    bounds: Bounds,
    last: mmap.mmap,
    send: int,
) -> NoReturn:
    code = 1
    try:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        signal.signal(signal.SIGPROF, _hang)
        before = _peak()
        # Room beyond the bound, so that what breaks it is seen and the machine stays well.
        ceiling = _address_space() + (2 * bounds.memory + 512) * MIB
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))

        def one(given_input: Any) -> None:
            shown = given_input if isinstance(given_input, bytes) else pickle.dumps(given_input)
            last[:] = shown[:_SHOWN].ljust(_SHOWN, b"\0")
            signal.setitimer(signal.ITIMER_PROF, bounds.seconds)
            try:
                read(given_input)
            except allowed as error:
                if "\n" in str(error):
                    raise AssertionError("the message has more than one line") from error
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            grown = (_peak() - before) // MIB
            assert grown <= bounds.memory, f"memory grew by {grown} MiB"

        until = time.monotonic() + spend
        round_ = 0
        while round_ == 0 or time.monotonic() < until:
            _round(one, inputs, examples * (1 if round_ == 0 else 10), round_)
            round_ += 1
        code = 0
    except BaseException:
        lines = [line[:400] for line in traceback.format_exc(chain=False).splitlines()]
        os.write(send, "\n".join(lines[-40:]).encode("utf-8", "replace"))
    finally:
        os._exit(code)


def _round(
    one: Callable[[Any], None], inputs: SearchStrategy[Any], examples: int, number: int
) -> None:
    test = given(inputs)(lambda value: one(value))
    options = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=number == 0,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    test = options(test)
    if number:
        test = hypothesis.seed(number)(test)
    test()


def _hang(number: int, frame: object) -> None:
    raise HangError("reading took too long")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _address_space() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * resource.getpagesize()
