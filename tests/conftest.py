"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real MNIST and CIFAR-10 (see the README), or skip."""
    folder = os.environ.get("FEWLABELS_DATA", "")
    if not folder or not Path(folder, "mnist").is_dir():
        pytest.skip("FEWLABELS_DATA does not name a folder with mnist/ and cifar10-jpeg/")
    return Path(folder).resolve()
