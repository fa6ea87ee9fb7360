"""Where and how precisely to compute, chosen once for a run."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch

from fewlabels.errors import ConfigError
from fewlabels.lookup import find

# Numbers from glibc's malloc.h: keep all that is freed, take 64 MiB at once, and use mappings of
# their own for blocks from 32 MiB on alone, the largest limit that it allows.
_MALLOC_OPTIONS = {-1: 2**31 - 1, -2: 64 << 20, -3: 32 << 20}

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = {"auto": None, "32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Compute:
    """A device with the precision of its matrix products.

    Attributes:
        device: where tensors live.
        precision: "32" or "bf16"; losses, norms and what the optimiser updates are float32 either
            way.
    """

    device: torch.device
    precision: str

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Matrix products in bfloat16 inside the block, where that is the precision."""
        enabled = self.precision == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled):
            yield


def choose(device: str = "auto", precision: str = "auto") -> Compute:
    """Resolve "auto" to what this machine does fastest.

    Raises:
        ConfigError: the device is not there.
        UnknownNameError: no such device or precision.
    """
    find(dict.fromkeys(DEVICES), device, "device")
    find(PRECISIONS, precision, "precision")
    chosen = torch.device(_best_device() if device == "auto" else device)
    if (chosen.type == "cuda" and not torch.cuda.is_available()) or (
        chosen.type == "mps" and not torch.backends.mps.is_available()
    ):
        raise ConfigError(
            f"The device {device!r} is not available on this machine. "
            "Use --set run.device=auto or run.device=cpu."
        )
    if precision == "auto":
        precision = "bf16" if _bfloat16_is_fast(chosen) else "32"
    return Compute(chosen, precision)


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _bfloat16_is_fast(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_tile") or capabilities.get("avx512_bf16"))
    return False


@cache
def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next training step, for this whole process.

    By default glibc hands large blocks back to the system, and a step that takes them again pays
    for every page: a tenth of the time of an autoencoder's step. Other libraries are left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for option, value in _MALLOC_OPTIONS.items():
        set_option(option, value)


def environment() -> dict[str, str | int]:
    """Facts about the machine and the libraries, for ``environment.json``."""
    facts: dict[str, str | int] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        facts["accelerator"] = torch.cuda.get_device_name(0)
    return facts


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
