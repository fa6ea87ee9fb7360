"""One contestant in a process of its own: prepares, warms up, then runs once per line of input.

    python benchmarks/speed/worker.py MODULE FUNCTION [ARGUMENT...]

FUNCTION(*ARGUMENTS) prepares and returns a callable that does one repetition and returns how many
images it handled. One JSON line comes out for each line in.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import warnings


def main() -> None:
    warnings.simplefilter("ignore")
    module, function, *arguments = sys.argv[1:]
    replies = sys.stdout
    sys.stdout = sys.stderr  # libraries may print what they like
    run = getattr(importlib.import_module(module), function)(*arguments)
    run()
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        images = run()
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "images": images}), file=replies, flush=True)


if __name__ == "__main__":
    main()
