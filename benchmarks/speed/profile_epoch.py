"""Where the time of the autoencoder epoch goes; see run.py.

    python benchmarks/speed/profile_epoch.py

Prints one JSON line: for each precision, the share of the processor's time by kind of operation,
from torch's profiler over one epoch of 60,000 images.
"""

from __future__ import annotations

import json
from collections import Counter

import ours
import torch
from torch.profiler import ProfilerActivity, profile

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "mkldnn", "aten::_scaled", "aten::linear"),
    "optimiser": ("_fused_adam", "_foreach", "aten::lerp", "Optimizer"),
    "batch norm": ("batch_norm",),
    "activations and loss": ("relu", "threshold", "sigmoid", "mse_loss", "gelu", "hardtanh"),
    "casts and copies": ("aten::copy_", "aten::_to_copy", "aten::to", "aten::fill_", "aten::zero_"),
    "gathering images": ("index_select", "aten::index", "aten::div"),
}


def main() -> None:
    print(json.dumps({precision: shares(precision) for precision in ("32", "bf16")}))


def shares(precision: str) -> dict[str, float]:
    """Share of the processor's own time by kind of operation."""
    run = ours.autoencoder(precision)
    run()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        run()
    times: Counter[str] = Counter()
    for event in found.key_averages():
        names = (kind for kind, parts in KINDS.items() if any(p in event.key for p in parts))
        times[next(names, "everything else")] += event.self_cpu_time_total
    total = sum(times.values())
    return {kind: time / total for kind, time in times.most_common()}


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
