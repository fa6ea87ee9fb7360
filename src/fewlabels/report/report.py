"""``report.html``: one file that opens offline, the answer first."""

from __future__ import annotations

import base64
import csv
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from safetensors.numpy import load_file

from fewlabels.errors import RunError
from fewlabels.files import write_text
from fewlabels.plots.curves import learning_curve
from fewlabels.plots.feature_map import class_colours, feature_map
from fewlabels.plots.health import stage_chart
from fewlabels.plots.pixels import png_data_uri
from fewlabels.plots.reliability import reliability_diagram
from fewlabels.report.advice import next_steps, verdict

MAX_CONFUSION_NUMBERS = 20
"""Above so many classes the confusion matrix is a heat map without numbers."""

MAX_DRAWINGS = 8
"""Pictures from the course of a pretraining that the page shows."""

Result = dict[str, Any]


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` of a finished run.

    Args:
        run_folder: with ``result.json``; other files enrich the page where they are there.

    Returns:
        The page's path.

    Raises:
        RunError: there is no result.
        StorageError: the page cannot be written.
    """
    result = _read_json(run_folder / "result.json")
    if result is None:
        raise RunError(
            f"The run {run_folder} has no result yet. Finish it with: fewlabels resume {run_folder}"
        )
    if result.get("task") == "pretrain":
        template, content = "pretraining.html", _pretraining_content(run_folder, result)
    else:
        template, content = "report.html", _content(run_folder, result)
    page = _environment().get_template(template).render(**content)
    return write_text(run_folder / "report.html", page)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fewlabels.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share, digits=1: f"{100 * share:.{digits}f} %"
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["words"] = lambda name: str(name).replace("_", " ")
    environment.filters["duration"] = _duration
    return environment


def _content(run_folder: Path, result: Result) -> dict[str, Any]:
    arrays_file = run_folder / "report_data.safetensors"
    arrays = load_file(arrays_file) if arrays_file.is_file() else {}
    shown = result["test"] or result["validation"]  # None where nothing could be held out
    names: Sequence[str] = result["data"]["class_names"]
    return {
        "result": result,
        "verdict": verdict(result),
        "next_steps": next_steps(result),
        "is_test": result["test"] is not None,
        "shown": shown,
        "rows": _comparison_rows(result),
        "curves": _curves(run_folder, result),
        "reconstructions": _reconstructions(arrays),
        "map": _map(arrays, len(names)),
        "legend": list(zip(names, class_colours(len(names)), strict=True)),
        "confusion": _confusion(shown, names) if shown else None,
        "mistakes": _mistakes(arrays, names),
        "reliability": Markup(reliability_diagram(shown["reliability"])) if shown else None,
        "pseudo_labels": _pseudo_labels(result, names),
        "settings": _settings_text(run_folder),
        "facts": _read_json(run_folder / "environment.json") or {},
        "seal": _read_json(run_folder / "seal.json") or {"openings": []},
    }


def _pretraining_content(run_folder: Path, result: Result) -> dict[str, Any]:
    pictures = sorted((run_folder / "samples").glob("[0-9]*.png"))
    return {
        "result": result,
        "curves": _curves(run_folder, result),
        "drawings": [
            {"epoch": int(path.stem), "image": _png_file(path)} for path in _spread(pictures)
        ],
        "reconstructions": _png_file(run_folder / "samples" / "reconstructions.png"),
        "settings": _settings_text(run_folder),
        "facts": _read_json(run_folder / "environment.json") or {},
    }


def _spread(pictures: Sequence[Path]) -> list[Path]:
    """The first, the last, and some between them."""
    count = min(MAX_DRAWINGS, len(pictures))
    places = {round(n * (len(pictures) - 1) / max(1, count - 1)) for n in range(count)}
    return [pictures[place] for place in sorted(places)]


def _png_file(path: Path) -> str | None:
    """As an address that needs no file."""
    if not path.is_file():
        return None
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _comparison_rows(result: Result) -> list[Result]:
    rows = sorted(result["comparison"], key=lambda row: -row["val_accuracy"])
    return [{**row, "chosen": row["name"] == result["chosen"]} for row in rows]


def _pseudo_labels(result: Result, names: Sequence[str]) -> list[Result] | None:
    """What unlabelled images were taken for, with the precision on validation where measured."""
    rows = result.get("pseudo_labels")
    if not rows:
        return None
    return [
        {
            **row,
            "name": name,
            "share": row["used"] / max(1, row["guessed"]),
            "precision": row["right"] / row["judged"] if row["judged"] else None,
        }
        for row, name in zip(rows, names, strict=True)
    ]


def _curves(run_folder: Path, result: Result) -> list[dict[str, Any]]:
    path = run_folder / "history.csv"
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    best = {phase["name"]: phase["best_epoch"] for phase in result["phases"]}
    charts = []
    for name in dict.fromkeys(row["phase"] for row in rows):
        phase_rows = [row for row in rows if row["phase"] == name]
        stopped = best.get(name, -1)
        mark = stopped if stopped is not None and 0 <= stopped < len(phase_rows) - 1 else None
        losses = _measured(phase_rows, {"training": "train_loss", "validation": "val_loss"})
        chart = Markup(learning_curve(name.replace("_", " "), losses, mark))
        charts.append({"name": name, "chart": chart, "epochs": len(phase_rows)})
        probes = _measured(phase_rows, _PROBES)
        if probes:
            title = f"{name}, features"
            chart = Markup(learning_curve(title.replace("_", " "), probes, mark, "accuracy"))
            charts.append({"name": title, "chart": chart, "epochs": len(phase_rows)})
        shares = _measured(phase_rows, _SHARES)
        if "unlabelled images used" in shares:
            title = f"{name}, unlabelled images"
            chart = Markup(learning_curve(title.replace("_", " "), shares, mark, "share"))
            charts.append({"name": title, "chart": chart, "epochs": len(phase_rows)})
        charts += _health(name, phase_rows)
    return charts


_HEALTH = {
    "gradient": ("length of the gradient", True),
    "deviation": ("deviation of activations", True),
    "mean": ("mean of activations", False),
    "dead": ("share of dead units", False),
}


def _health(name: str, rows: Sequence[Result]) -> list[dict[str, Any]]:
    """What was watched of the stages, where ``watch = true``: a chart for each quantity."""
    columns = [key for key in rows[0] if key.startswith("watch/") and rows[0][key]]
    charts = []
    for quantity, (words, log) in _HEALTH.items():
        stages = {key.split("/")[1]: key for key in columns if key.endswith(f"/{quantity}")}
        if stages:
            title = f"{name}, {words}"
            by_stage = _measured(rows, stages)
            chart = Markup(stage_chart(name.replace("_", " "), by_stage, words, log=log))
            charts.append({"name": title, "chart": chart, "epochs": len(rows)})
    return charts


_PROBES = {
    "linear probe": "probe_accuracy",
    "five nearest neighbours": "neighbours_accuracy",
}

_SHARES = {
    "unlabelled images used": "used_share",
    "labelled images right": "train_accuracy",
    "held-out images right": "val_accuracy",
}


def _measured(rows: Sequence[Result], columns: Mapping[str, str]) -> dict[str, list[float | None]]:
    """Columns of the history that hold anything, under other names."""
    curves = {name: [_number(row.get(key)) for row in rows] for name, key in columns.items()}
    return {name: values for name, values in curves.items() if any(v is not None for v in values)}


def _number(cell: str | None) -> float | None:
    return float(cell) if cell else None


def _reconstructions(arrays: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = (
        ("originals", "original"),
        ("reconstructions", "autoencoder"),
        ("pca_reconstructions", "PCA, same width"),
    )
    return [
        {"name": name, "images": [png_data_uri(image) for image in arrays[key][:12]]}
        for key, name in rows
        if key in arrays
    ]


def _map(arrays: Mapping[str, Any], num_classes: int) -> Markup | None:
    if "map_points" not in arrays or "map_labels" not in arrays:
        return None
    return Markup(feature_map(arrays["map_points"], arrays["map_labels"], num_classes))


def _confusion(evaluation: Result, names: Sequence[str]) -> dict[str, Any]:
    cells = []
    for row in evaluation["confusion"]:
        total = max(1, sum(row))
        cells.append([{"count": count, "share": round(count / total, 3)} for count in row])
    return {"names": names, "rows": cells, "numbers": len(names) <= MAX_CONFUSION_NUMBERS}


def _mistakes(arrays: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]] | None:
    keys = ("mistakes_images", "mistakes_true", "mistakes_predicted", "mistakes_confidence")
    if any(key not in arrays for key in keys):
        return None
    images, true, predicted, confidence = (arrays[key] for key in keys)
    return [
        {
            "image": png_data_uri(images[index]),
            "true": names[int(true[index])],
            "predicted": names[int(predicted[index])],
            "confidence": float(confidence[index]),
        }
        for index in range(len(images))
    ]


def _settings_text(run_folder: Path) -> str:
    """The settings as TOML again, so that they read the same however they were written."""
    found = [run_folder / name for name in ("settings.toml", "config.toml")]
    path = next((file for file in found if file.is_file()), None)
    if path is None:
        return ""
    return tomli_w.dumps(tomllib.loads(path.read_text(encoding="utf-8")))


def _read_json(path: Path) -> Result | None:
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"The file {path} of the run cannot be read: {error}.") from None
    return value if isinstance(value, dict) else None


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
