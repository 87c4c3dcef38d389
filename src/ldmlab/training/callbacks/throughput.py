"""Throughput logging: images a second, FLOPs, memory and the share of waiting for data."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import ExitStack
from typing import Any

import lightning as L
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ldmlab.core.records import Batch
from ldmlab.training.step_module import StepModule

# Dense bf16 TFLOP/s of the datasheets, by a part of the device's name.
PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "A10": 125, "V100": 125, "4090": 165}


class _Operations(TorchDispatchMode):
    """Counts operations; torch's own counter breaks `autograd.grad`, which stage one needs."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, counting."""
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


class Throughput(L.Callback):
    """Logs images and floating-point operations a second, waiting for data, and memory.

    Operations are those of convolutions, linear layers and attention, a multiply-add being two,
    counted while one step runs. The figures are means since the last logged step.

    Args:
        every: Steps between two logs.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._flops_per_image: float | None = None
        self._images, self._waited = 0, 0.0
        self._since = self._ended = 0.0
        self._counting = ExitStack()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._images, self._waited = 0, 0.0
        self._since = self._ended = time.monotonic()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Note how long the batch was waited for."""
        self._waited += time.monotonic() - self._ended
        if self._flops_per_image is None:
            self._counter = self._counting.enter_context(_Operations())

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count, and log when it is time."""
        if self._flops_per_image is None:
            self._counting.close()
            self._flops_per_image = self._counter.total / len(batch)
            # The counted step was slower than the others.
            self.on_train_start(trainer, pl_module)
            return
        assert isinstance(pl_module, StepModule)
        self._images += len(batch)
        if pl_module.step % self.every == 0:
            self._log(trainer, pl_module)
        self._ended = time.monotonic()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Stop counting."""
        self._counting.close()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self._paused = time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave validation out of the figures."""
        spent = time.monotonic() - self._paused
        self._since, self._ended = self._since + spent, self._ended + spent

    def _log(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        rate = self._images / seconds
        assert self._flops_per_image is not None
        teraflops = rate * self._flops_per_image / 1e12
        figures = {
            "images_per_second": rate * trainer.world_size,
            "teraflops_per_device": teraflops,
            "waiting_for_data": self._waited / seconds,
            "memory_gib": _peak_memory(module.device),
        }
        peak = _peak_teraflops(module.device)
        if peak is not None:
            figures["share_of_peak"] = teraflops / peak
        module.log_dict({f"throughput/{name}": value for name, value in figures.items()})
        self._images, self._waited, self._since = 0, 0.0, now


def _peak_memory(device: torch.device) -> float:
    """Most memory taken so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    # In KiB, but on macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _peak_teraflops(device: torch.device) -> float | None:
    """What the datasheet promises in bf16; None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)
