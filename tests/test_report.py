"""The report in a real browser: offline, complete, at desktop and phone width, light and dark."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright

from fewlabels.data.builtin import digits
from fewlabels.errors import RunError
from fewlabels.plots.health import stage_chart
from fewlabels.report.advice import next_steps, verdict
from fewlabels.report.report import write_report
from fewlabels.runs.run_folder import read_json
from fewlabels.workflows.fit import fit
from fewlabels.workflows.pictures import lay_out
from fewlabels.workflows.settings import load_settings

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
QUICK = [
    "pretraining.epochs=4",
    "training.epochs=12",
    "network.widths=[32]",
    "transfer.strategies=['full']",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium; install Debian's package chromium or set CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose class names are hostile, long and not Latin."""
    folder = tmp_path_factory.mktemp("report")
    data = digits()
    names = ["<script>alert(1)</script>", "κλάση", "a very long class name without any break" * 2]
    chosen = np.flatnonzero(data.labels < 3)[:200]
    np.savez(
        folder / "three.npz",
        images=data.images[chosen, 0],
        labels=np.array(names)[data.labels[chosen]],
    )
    settings = load_settings(
        "digits", assignments=[*QUICK, f"data.source='{folder / 'three.npz'}'"]
    )
    return Path(fit(settings, folder / "runs")["run"])


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_in_a_browser(browser: Browser, run: Path, width: int, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"file://{run / 'report.html'}")
    assert [url for url in requests if not url.startswith("data:")] == [page.url]
    assert errors == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    headings = page.locator("h2").all_inner_texts()
    assert headings[:2] == ["Against what?", "What to do next"]
    assert {"Learning curves", "Map of the features", "The seal"} <= set(headings)
    assert page.locator("tr.chosen").count() == 1
    assert page.locator("svg[role=img][aria-label]").count() >= 5
    assert page.locator("img:not([alt])").count() == 0
    assert all(
        page.locator("img").nth(i).evaluate("image => image.naturalWidth") > 0 for i in range(5)
    )
    colours = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    ink, paper = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert (ink > paper) == (scheme == "dark")
    context.close()


def test_class_names_are_escaped(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_report_names_the_numbers_of_the_run(run: Path) -> None:
    result = read_json(run / "result.json")
    page = (run / "report.html").read_text()
    assert f"{100 * result['val_accuracy']:.1f} %" in page
    for row in result["comparison"]:
        assert row["name"].replace("_", " ") in page
    assert "never been opened" in page


def test_missing_parts_are_said_not_invented(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "result.json", tmp_path)
    page = write_report(tmp_path).read_text()
    assert "The history of this run is missing" in page
    assert "The data of the map is missing" in page
    with pytest.raises(RunError, match="no result yet"):
        write_report(tmp_path / "nothing")


def result_with(**changes: Any) -> dict[str, Any]:
    evaluation = {
        "num_images": 60,
        "accuracy": 0.8,
        "calibration_error": 0.02,
        "recall": [0.9, 0.7],
        "class_names": ["cat", "dog"],
    }

    def row(name: str, kind: str, accuracy: float) -> dict[str, Any]:
        interval = [accuracy - 0.1, accuracy + 0.1]
        return {
            "name": name,
            "kind": kind,
            "val_accuracy": accuracy,
            "val_interval": interval,
            "n": 60,
        }

    base = {
        "run": "runs/x",
        "data": {"counts": {"test": 100}},
        "validation": evaluation,
        "test": None,
        "val_accuracy": 0.8,
        "val_interval": [0.7, 0.9],
        "pretraining": None,
        "comparison": [
            row("svm_pca", "baseline", 0.7),
            row("scratch", "scratch", 0.6),
            row("transfer_full", "transfer", 0.8),
        ],
    }
    return {**base, **changes}


def test_verdict_is_careful() -> None:
    result = result_with()
    assert "helped here, by 20.0 points" in verdict(result)
    result["comparison"][2]["val_accuracy"] = 0.63
    assert "cannot tell" in verdict(result)
    result["comparison"][2]["val_accuracy"] = 0.6
    assert "no difference" in verdict(result)
    result["comparison"][2]["val_accuracy"] = 0.3
    assert "hurt here" in verdict(result)


def test_advice_says_when_a_baseline_wins() -> None:
    result = result_with()
    assert not any("baseline" in step for step in next_steps(result))
    result["comparison"][0]["val_accuracy"] = 0.85
    assert any("svm pca does as well or better" in step for step in next_steps(result))


def test_advice_by_the_numbers() -> None:
    steps = " ".join(next_steps(result_with()))
    assert "fewlabels test runs/x" in steps
    assert "60 validation images" in steps
    assert "class dog" in steps
    overconfident = {**result_with()["validation"], "calibration_error": 0.2}
    assert "off by 20%" in " ".join(next_steps(result_with(validation=overconfident)))


def test_what_was_watched_is_drawn(tmp_path: Path) -> None:
    """With frozen stages, whose gradients are 0 throughout: nothing may be warned of, as warnings
    are errors here."""
    watched = ("training.watch=true", "transfer.strategies=['frozen', 'gradual']")
    settings = load_settings(
        "digits", assignments=[*QUICK, "data.source=digits", "data.num_labels=60", *watched]
    )
    page = (Path(fit(settings, tmp_path)["run"]) / "report.html").read_text()
    for words in ("gradient", "deviation of activations", "mean of activations", "dead units"):
        assert words in page
    assert "0 throughout" in stage_chart("x", {"a": [0.0, 0.0]}, "gradient", log=True)


@pytest.mark.parametrize("different", [1, 2, 3, 5])
def test_a_network_that_says_the_same_of_all_images_has_a_map(different: int) -> None:
    """t-SNE used to end the whole program there."""
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(different, 8)), 60, axis=0)
    points = lay_out(features)
    assert points.shape == (60 * different, 2)
    assert np.isfinite(points).all()
    assert (points.std() > 0) == (different > 3)
    assert np.isfinite(lay_out(np.full((20, 3), np.nan))).all()
