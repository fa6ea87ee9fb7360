"""One contestant in a process of its own: prepares, warms up, then runs once per line of input.

    python benchmarks/speed/worker.py MODULE FUNCTION [ARGUMENT...]

FUNCTION(*ARGUMENTS) prepares and returns a callable that does one repetition and returns how many
images it handled. The first line out says what runs it, then one JSON line comes for each line in.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
import time
import warnings
from collections.abc import Callable

# Work that takes milliseconds is repeated, or the clock and the scheduler would decide.
SHORTEST_SECONDS = 1.0


def main() -> None:
    warnings.simplefilter("ignore")
    module, function, *arguments = sys.argv[1:]
    replies = sys.stdout
    sys.stdout = sys.stderr  # libraries may print what they like
    run = getattr(importlib.import_module(module), function)(*arguments)
    run()
    print(json.dumps(facts()), file=replies, flush=True)
    for _ in sys.stdin:
        print(json.dumps(measured(run)), file=replies, flush=True)


def measured(run: Callable[[], int]) -> dict[str, float]:
    """Seconds and images of one repetition, several runs where one is short."""
    started, images, runs = time.perf_counter(), 0, 0
    while (seconds := time.perf_counter() - started) < SHORTEST_SECONDS:
        images += run()
        runs += 1
    return {"seconds": seconds, "images": images, "runs": runs}


def facts() -> dict[str, str | int]:
    """Python, torch where it is loaded, and its threads."""
    found: dict[str, str | int] = {"python": platform.python_version()}
    torch = sys.modules.get("torch")
    if torch is not None:
        found |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    return found


if __name__ == "__main__":
    main()
