"""A run killed for real, in each phase, then resumed: the same final weights bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fewlabels.interrupts import raise_if_interrupted, remembering_interrupts

ARGUMENTS = [
    "fit",
    "digits",
    "--recipe=digits",
    "--num-labels=60",
    "--set=network.widths=[48, 24]",
    "--set=network.norm=batch",
    "--set=network.dropout=0.1",
    "--set=pretraining.epochs=40",
    "--set=pretraining.checkpoint_seconds=0",
    "--set=training.epochs=60",
    "--set=training.checkpoint_seconds=0",
    "--set=transfer.strategies=['full', 'gradual']",
    "--set=run.precision=32",
    "--set=run.seed=3",
    "--json",
]
PHASES = ("scratch", "pretrain", "transfer_gradual", "refit")


def start(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fewlabels", *ARGUMENTS, f"--out={out}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(out: Path, phase: str, process: subprocess.Popen[bytes]) -> Path:
    """Until the phase has written its first checkpoint."""
    for _ in range(6_000):
        found = list(out.glob(f"*/checkpoints/{phase}.safetensors"))
        if found:
            return found[0].parent.parent
        if process.poll() is not None:
            raise AssertionError(process.stderr.read().decode() if process.stderr else "ended")
        time.sleep(0.005)
    raise AssertionError(f"no checkpoint of {phase}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    process = start(tmp_path_factory.mktemp("undisturbed"))
    output, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    return Path(json.loads(output)["run"])


@pytest.mark.parametrize("phase", PHASES)
def test_killed_run_ends_in_the_same_weights(phase: str, undisturbed: Path, tmp_path: Path) -> None:
    with start(tmp_path) as process:
        run = wait_for(tmp_path, phase, process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (run / "result.json").exists(), "the run ended before it could be killed"
    assert not list(run.rglob("*.tmp"))
    resumed = subprocess.run(
        [sys.executable, "-m", "fewlabels", "resume", str(run), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    weights = "model/weights.safetensors"
    assert (run / weights).read_bytes() == (undisturbed / weights).read_bytes()
    again = json.loads((run / "result.json").read_text())
    before = json.loads((undisturbed / "result.json").read_text())
    for key in ("chosen", "chosen_epochs", "validation", "pretraining"):
        assert again[key] == before[key]


def test_interrupt_says_how_to_resume(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        run = wait_for(tmp_path, "pretrain", process)
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
    assert process.returncode == 1
    assert f"fewlabels resume {run}" in errors.decode()
    assert "Traceback" not in errors.decode()
    assert (run / "checkpoints" / "pretrain.safetensors").exists()


def test_an_interrupt_that_is_swallowed_is_raised_again() -> None:
    """Python prints an exception from a finaliser and goes on."""

    class Tidied:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with remembering_interrupts():
        thing = Tidied()
        with catch_unraisable() as swallowed:
            del thing
        assert swallowed == [KeyboardInterrupt]
        with pytest.raises(KeyboardInterrupt):
            raise_if_interrupted()
        raise_if_interrupted()  # once is enough
    assert signal.getsignal(signal.SIGINT) is before


@contextmanager
def catch_unraisable() -> Iterator[list[type[BaseException]]]:
    found: list[type[BaseException]] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda event: found.append(event.exc_type)
    try:
        yield found
    finally:
        sys.unraisablehook = before
