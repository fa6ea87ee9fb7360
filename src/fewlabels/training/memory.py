"""How much memory something takes at its peak."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Peak:
    """What was measured.

    Attributes:
        num_bytes: at the peak; None where that cannot be measured.
    """

    num_bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the peak within the block: of the accelerator, else of the whole process on Linux."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.num_bytes = torch.cuda.max_memory_allocated(device)
        return
    try:
        _RESET.write_text("5")  # forgets the old peak
    except OSError:
        yield peak
        return
    yield peak
    line = _STATUS.read_text().partition("VmHWM:")[2]
    peak.num_bytes = int(line.split()[0]) * 1024
