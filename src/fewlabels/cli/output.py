"""What commands print: one JSON object, or tables for people."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def emit_json(value: Any) -> None:
    """One JSON object on standard output."""
    json_text.dump(value, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def _table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left")
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=not sys.stdout.isatty()).print(table)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(bounds: Sequence[float]) -> str:
    return f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f} %"


def fit_result(result: dict[str, Any], json: bool) -> None:
    """The comparison, what was chosen, and where the report is."""
    report_path = Path(result["run"]) / "report.html"
    if json:
        emit_json(result)
        return
    rows = [
        [
            f"{row['name']}{' ←' if row['name'] == result['chosen'] else ''}",
            row["kind"],
            _percent(row["val_accuracy"]),
            _interval(row["val_interval"]),
            f"{row['seconds']:.1f}",
        ]
        for row in result["comparison"]
    ]
    columns = [
        ("classifier", "left"),
        ("kind", "left"),
        ("validation", "right"),
        ("95 % interval", "right"),
        ("seconds", "right"),
    ]
    if rows:
        n, judged_by = result["comparison"][0]["n"], result["judged_by"]
        title = f"Accuracy on {n} held-out images ({judged_by}); ← is what was chosen"
        _table(columns, rows, title)
    else:
        print("No accuracy: with one label in a class, nothing could be held out.")
    if not result["data"]["counts"]["test"]:
        print("No test set: the data has no test part, and the split leaves none.")
    elif result["test_accuracy"] is None:
        print(f"The test set is sealed. Open it with: fewlabels test {result['run']}")
    else:
        _print_test(result)
    for warning in result["warnings"]:
        print(f"Warning: {warning}")
    print(f"Finished in {result['seconds']:.0f} s. Report: {report_path.resolve()}")


def pretraining(result: dict[str, Any], json: bool) -> None:
    """How good the features are, what has gone wrong, and what can be done with the run."""
    if json:
        emit_json(result)
        return
    probe, run = result["probe"], result["run"]
    if "probe_accuracy" in probe:
        print(
            f"Features, judged by {probe['num_labels']} labels in turns: a linear probe is right "
            f"on {_percent(probe['probe_accuracy'])}, five nearest neighbours on "
            f"{_percent(probe['neighbours_accuracy'])}."
        )
    else:
        print("Nothing says how good the features are: that takes two labels in each class.")
    if result["pretraining"] is not None:
        facts = result["pretraining"]
        print(
            f"Squared error per pixel: {facts['error']:.4f}; PCA of the same width "
            f"{facts['pca_error']:.4f}, always the mean image {facts['mean_image_error']:.4f}."
        )
    for finding in result["findings"]:
        print(f"Warning: {finding}")
    print(f"A classifier of it: fewlabels fit DATA --encoder {run}")
    for ability in result["abilities"]:
        print(f"It can {ability}: fewlabels {ability} {run}")
    report = (Path(run) / "report.html").resolve()
    print(f"Finished in {result['seconds']:.0f} s. Report: {report}")


def generated(result: dict[str, Any], json: bool) -> None:
    """Where the picture is, and how good the images are where that was judged."""
    if json:
        emit_json(result)
        return
    quality = result.get("quality")
    if quality is not None:
        shares = quality["shares"]
        fewest = min(shares, key=lambda name: shares[name])
        print(
            f"By the classifier, of {quality['num_made']:,} images: {_percent(quality['sure'])} "
            f"are clearly of a class; the rarest class, {fewest}, has {_percent(shares[fewest])}."
        )
        print(
            f"In its features: Fréchet distance {quality['distance']:.2f} (real against real "
            f"{quality['floor']:.2f}), precision {_percent(quality['precision'])}, recall "
            f"{_percent(quality['recall'])}. Not comparable with figures of other classifiers."
        )
    if "tried" in result:
        print(f"{result['tried']:,} images were made to find {result['count']} of the class.")
    print(f"Picture: {Path(result['output']).resolve()}")


def picture(result: dict[str, Any], json: bool) -> None:
    """Where the picture is."""
    if json:
        emit_json(result)
        return
    if "error" in result:
        print(f"Mean squared error per pixel: {result['error']:.4f}.")
    print(f"Picture: {Path(result['output']).resolve()}")


def _print_test(result: dict[str, Any]) -> None:
    print(
        f"Test accuracy {_percent(result['test_accuracy'])} "
        f"({_interval(result['test_interval'])}, n = {result['test']['num_images']}), "
        f"opening number {result['test_openings']}."
    )


def recipes(found: Sequence[Any], json: bool) -> None:
    """One line for each recipe."""
    if json:
        fields = ("name", "summary", "cost", "paper")
        emit_json({"recipes": [{key: getattr(one, key) for key in fields} for one in found]})
        return
    columns = [("recipe", "left"), ("what it does", "left"), ("cost", "left"), ("paper", "left")]
    rows = [[one.name, one.summary, one.cost, one.paper] for one in found]
    _table(columns, rows, "fewlabels fit DATA --recipe RECIPE")


def network(result: dict[str, Any], json: bool) -> None:
    """One line for each stage, and the totals."""
    if json:
        emit_json(result)
        return
    rows = [
        [
            stage["name"],
            "×".join(map(str, stage["output_shape"])),
            f"{stage['num_parameters']:,}",
            *_work(stage),
            _field(stage["receptive_field"]),
        ]
        for stage in result["stages"]
    ]
    total = result["total"]
    rows.append(["total", "", f"{total['num_parameters']:,}", *_work(total), ""])
    columns = [
        ("stage", "left"),
        ("output", "right"),
        ("parameters", "right"),
        ("work", "right"),
        ("memory", "right"),
        ("field", "left"),
    ]
    shape = "×".join(map(str, result["image_shape"]))
    _table(columns, rows, f"{result['network']} for one image of {shape}")
    print("Work: multiply-adds. Memory: of the activations, in float32. Field: pixels that a value")
    print("depends on / step from value to value / middle of the first one's field.")
    if result["drawing"]:
        print(f"Drawing: {Path(result['drawing']).resolve()}")


def _work(costs: dict[str, Any]) -> list[str]:
    """Multiply-adds and memory, short."""
    work = float(costs["multiply_adds"])
    unit = next((name for name, size in _UNITS.items() if work >= size), "")
    shown = f"{work / _UNITS[unit]:.3g} {unit}" if unit else f"{work:.0f}"
    return [shown, f"{costs['activation_bytes'] / 1024:,.0f} KiB"]


_AXIS = ("size", "stride", "offset")
_UNITS = {"G": 1e9, "M": 1e6, "k": 1e3}


def _field(axes: Sequence[Any]) -> str:
    if axes == [None, None]:
        return "whole image"
    rows, columns = (
        "all" if axis is None else " / ".join(f"{round(axis[key], 2):g}" for key in _AXIS)
        for axis in axes
    )
    return rows if rows == columns else f"{rows} by {columns}"


def test_result(result: dict[str, Any], json: bool) -> None:
    """The test accuracy and how often the seal was opened."""
    if json:
        emit_json(result)
        return
    _print_test(result)
    print(f"Report: {(Path(result['run']) / 'report.html').resolve()}")


def comparison(result: dict[str, Any], json: bool) -> None:
    """Mean and spread over draws, and the paired difference to scratch."""
    if json:
        emit_json(result)
        return
    rows = []
    for row in result["rows"]:
        difference = row.get("difference")
        rows.append(
            [
                row["name"],
                f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f} %",
                "" if difference is None else f"{100 * difference['mean']:+.1f} points",
                ""
                if difference is None
                else f"{100 * difference['low']:+.1f} … {100 * difference['high']:+.1f}",
                row.get("helps", ""),
            ]
        )
    columns = [
        ("network", "left"),
        ("accuracy, mean ± std", "right"),
        ("against scratch", "right"),
        ("95 % interval", "right"),
        ("helps here?", "left"),
    ]
    title = f"{result['draws']} draws of the labels, each scored on {result['n_per_draw']} images"
    _table(columns, rows, title)


def pretexts(result: dict[str, Any], json: bool) -> None:
    """Objectives, best first, beside the same network from scratch."""
    if json:
        emit_json(result)
        return
    rows = [
        [
            row["name"],
            f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f} %",
            _against(row.get("difference")),
            row.get("helps", ""),
            "" if row.get("probe") is None else _percent(row["probe"]),
            "" if row.get("seconds") is None else f"{row['seconds']:.0f}",
            "" if row.get("memory") is None else f"{row['memory'] / 1e9:.2f} GB",
        ]
        for row in result["rows"]
    ]
    columns = [
        ("objective", "left"),
        ("transfer, mean ± std", "right"),
        ("against scratch, 95 % interval", "right"),
        ("helps here?", "left"),
        ("probe", "right"),
        ("seconds", "right"),
        ("memory", "right"),
    ]
    title = (
        f"{result['network']}, {result['draws']} draws of the labels, each scored on "
        f"{result['n_per_draw']} images; every objective had {result['seconds']:.0f} s"
    )
    _table(columns, rows, title)
    for name, reason in result["left_out"].items():
        print(f"Left out: {name}. {reason}")
    if result["picture"]:
        print(f"Picture: {Path(result['picture']).resolve()}")


def _against(difference: dict[str, Any] | None) -> str:
    if difference is None:
        return ""
    low, high = 100 * difference["low"], 100 * difference["high"]
    return f"{100 * difference['mean']:+.1f} ({low:+.1f} … {high:+.1f})"


def latents(result: dict[str, Any], json: bool) -> None:
    """A row a width."""
    if json:
        emit_json(result)
        return
    rows = [
        [
            str(row["width"]),
            f"{row['error']:.4f}",
            f"{row['pca_error']:.4f}",
            "" if row["probe"] is None else _percent(row["probe"]),
            "" if row["pca_probe"] is None else _percent(row["pca_probe"]),
            f"{row['seconds']:.0f}",
        ]
        for row in result["rows"]
    ]
    columns = [
        ("width", "right"),
        ("error", "right"),
        ("PCA", "right"),
        ("probe", "right"),
        ("PCA", "right"),
        ("seconds", "right"),
    ]
    title = (
        f"Squared error per unseen pixel; linear probe of {result['num_labels']} labels in turns"
    )
    _table(columns, rows, title)
    for sentence in result["findings"]:
        print(sentence)
    if result["picture"]:
        print(f"Picture: {Path(result['picture']).resolve()}")


def evaluation(result: dict[str, Any], json: bool) -> None:
    """The figures of one evaluation."""
    if json:
        emit_json(result)
        return
    rows = [
        ["accuracy", f"{_percent(result['accuracy'])} ({_interval(result['interval'])})"],
        ["balanced accuracy", _percent(result["balanced_accuracy"])],
        ["macro F1", f"{result['macro_f1']:.3f}"],
        ["log loss", f"{result['log_loss']:.3f}"],
        ["expected calibration error", f"{result['calibration_error']:.3f}"],
    ]
    title = f"{result['num_images']} labelled images of {result['source']}"
    _table([("figure", "left"), ("value", "right")], rows, title)


def prediction(result: dict[str, Any], json: bool) -> None:
    """How many images were classified as what, and where the file is."""
    if json:
        emit_json(result)
        return
    rows = [[name, str(count)] for name, count in result["predicted"].items() if count]
    _table([("class", "left"), ("images", "right")], rows, f"{result['num_images']} images")
    if result["num_skipped"]:
        print(f"Skipped: {result['num_skipped']} files; --json lists the first 50.")
    print(f"Predictions: {result['output']}")


def report(path: Path, json: bool) -> None:
    """Where the report is."""
    if json:
        emit_json({"report": str(path)})
    else:
        print(f"Report: {path.resolve()}")


def inspection(result: dict[str, Any], json: bool) -> None:
    """Counts, sizes, modes and everything that looks wrong."""
    if json:
        emit_json(result)
        return
    from rich.console import Console

    console = Console(soft_wrap=not sys.stdout.isatty())
    for name, value in result.items():
        title = name.removeprefix("num_").replace("_", " ")
        if isinstance(value, dict):
            rows = [[str(key), _shown(count)] for key, count in value.items()]
            if rows:
                _table([("", "left"), ("", "left")], rows, title)
        elif isinstance(value, (list, tuple)) and name != "image_shape":
            console.print(f"{title}: {len(value) or 'none'}", highlight=False)
            for entry in value[:10]:
                console.print(f"  {_shown(entry)}", highlight=False, markup=False)
        else:
            console.print(f"{title}: {_shown(value)}", highlight=False, markup=False)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(str(entry) for entry in value)
    return str(value)


def speeds(result: dict[str, Any], json: bool) -> None:
    """What the machine can do, and what each part of the program does of it."""
    if json:
        emit_json(result)
        return
    rows = [[row["name"], f"{row['value']:,.0f} {row['unit']}"] for row in result["ceilings"]]
    facts = f"{result['processor']}, {result['threads']} threads, torch {result['torch']}"
    _table([("limit of the machine", "left"), ("", "right")], rows, facts)
    rows = [
        [row["name"], f"{row['images_per_second']:,.0f}", f"{row['share']:.0%}", row["limit"]]
        for row in result["speeds"]
    ]
    columns = [("part", "left"), ("images/s", "right"), ("share", "right"), ("of", "left")]
    _table(columns, rows, f"This program on {result['device']} in {result['precision']} precision")
    print(result["verdict"])
