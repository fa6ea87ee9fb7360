"""`fewlabels bench`: limits and shares of this machine, checked for sense, never for speed."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fewlabels.cli.main import run
from fewlabels.workflows import bench as benching
from fewlabels.workflows.bench import WIDTHS, Speed, matrix_ceiling, verdict


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benching, "NUM_IMAGES", 2048)
    monkeypatch.setattr(benching, "NUM_FILES", 300)
    monkeypatch.setattr(benching, "REPETITIONS", 1)


@pytest.mark.usefixtures("small")
def test_bench_prints_every_part_with_its_share(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--precision", "32", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["unit"] for row in result["ceilings"]] == ["GFLOP/s", "GFLOP/s", "GB/s"]
    assert len(result["speeds"]) == 5
    for row in result["speeds"]:
        assert row["images_per_second"] > 0
        assert row["share"] > 0
    assert all(row["name"] in result["verdict"] for row in result["speeds"])
    assert result["precision"] == "32"


@pytest.mark.usefixtures("small")
def test_bench_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench"]) == 0
    shown = capsys.readouterr().out
    assert "pretraining" in shown
    assert "GFLOP/s" in shown


@pytest.mark.usefixtures("small")
def test_operations_of_the_ceiling_are_those_of_a_step() -> None:
    """Independent source: torch's own counter over the products."""
    with FlopCounterMode(display=False) as counter:
        ceiling = matrix_ceiling(torch.device("cpu"), "32")
    calls = 1 + 10 * benching.REPETITIONS
    per_step = sum(
        (3 if position else 2) * 2 * 512 * inputs * outputs
        for position, (inputs, outputs) in enumerate(pairwise(WIDTHS))
    )
    assert counter.get_total_flops() == calls * per_step
    assert ceiling.value > 0


def test_unknown_device_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--device", "cpuu"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_verdict_names_the_limit() -> None:
    fast, slow = (
        Speed(name=name, images_per_second=1.0, share=share, limit="x")
        for name, share in (("fast", 0.9), ("slow", 0.2))
    )
    assert verdict([fast, slow]) == (
        "The machine is the limit of: fast. There is room between program and machine in: slow."
    )
