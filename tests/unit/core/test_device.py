"""Which device a process computes on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from ldmlab.core.device import accelerator_of, device_of, device_to_show_on
from ldmlab.core.errors import UserError


def config(accelerator: str, devices: object = 1) -> tuple[Any, Any]:
    cfg = OmegaConf.create({"accelerator": accelerator, "devices": devices})
    return cfg.accelerator, cfg.devices


def test_device_without_a_gpu_is_cpu_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(*config("cpu")) == device_of(*config("auto")) == torch.device("cpu")
    for wanted in ("gpu", "cuda"):
        with pytest.raises(UserError, match=rf"trainer\.accelerator={wanted}, .* set trainer\.acc"):
            device_of(*config(wanted))
        # A model that was trained on one can be looked at all the same.
        assert device_to_show_on(*config(wanted)) == torch.device("cpu")


def test_device_is_the_gpu_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    assert accelerator_of("auto") == accelerator_of("gpu") == "cuda"
    assert device_of(*config("cpu")) == device_to_show_on(*config("cpu")) == torch.device("cpu")
    assert device_of(*config("gpu", 8)) == torch.device("cuda", 0)
    monkeypatch.setenv("SLURM_LOCALID", "3")
    assert device_of(*config("auto", 8)) == torch.device("cuda", 3)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of(*config("gpu", 8)) == torch.device("cuda", 1)
    assert device_of(*config("gpu", [4, 6])) == device_to_show_on(*config("gpu", [4, 6]))
    assert device_of(*config("gpu", [4, 6])) == torch.device("cuda", 6)
