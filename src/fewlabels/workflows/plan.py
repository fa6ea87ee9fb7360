"""What a run decided, and when: kept on disk, so that a resumed run decides the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewlabels.files import write_json
from fewlabels.progress import say
from fewlabels.runs.run_folder import read_json


class Plan:
    """Decisions by name, sentences about them, and a clock that survives a restart.

    Whatever depends on the clock or on a measurement goes through `remember`.

    Args:
        file: JSON file; what it holds is taken over.
        budget: seconds for the whole run.
        started: on the clock of `time.perf_counter`, when the program began with the run.
    """

    def __init__(self, file: Path, budget: float, started: float) -> None:
        self._file = file
        self._started = started
        saved: dict[str, Any] = {"seconds": 0.0, "facts": {}, "said": []}
        if file.is_file():
            saved = read_json(file)
        self._before = float(saved["seconds"])
        self._facts: dict[str, Any] = saved["facts"]
        self.said: list[str] = saved["said"]
        self.budget = budget

    @property
    def elapsed(self) -> float:
        """Seconds since the run began; after a restart, those up to its last decision count."""
        return self._before + time.perf_counter() - self._started

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget - self.elapsed

    def remember(self, name: str, decide: Callable[[], Any]) -> Any:
        """What was decided before; otherwise decide now, and keep it.

        Args:
            name: of the decision.
            decide: gives something that JSON can hold.
        """
        if name not in self._facts:
            self._facts[name] = decide()
            self._save()
        return self._facts[name]

    def tell(self, sentence: str) -> None:
        """Say a decision and its reason once; the report says it again."""
        if sentence not in self.said:
            say(sentence)
            self.said.append(sentence)
            self._save()

    def _save(self) -> None:
        facts = {"seconds": self.elapsed, "facts": self._facts, "said": self.said}
        write_json(self._file, facts)
