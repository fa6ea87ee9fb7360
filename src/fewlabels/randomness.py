"""Random generators derived from one seed.

Every random decision takes a generator made here from the run's seed and the decision's name, for
example ``generator(seed, "pretrain", epoch)``. A resumed run derives the same generators again, so
no generator state has to be saved for it to be exact.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and every name, equal on all machines."""
    text = "/".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator on `device`, seeded from `seed` and the names."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator seeded from `seed` and the names."""
    return np.random.default_rng(derive_seed(seed, *names))
