"""What the numbers of a run mean, and what to do next, in sentences."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]

SMALL_VALIDATION = 100


def verdict(result: Result) -> str:
    """Did the unlabelled images help here? One honest sentence."""
    joint, transfers = _rows(result, "semisupervised"), _rows(result, "transfer")
    scratch = _rows(result, "scratch")
    if not (joint or transfers) or not scratch:
        return "There is no comparison of learning from all images with learning from labels alone."
    # What the run is about comes first: unlabelled images in the training, else before it.
    rows, name = (joint, "Unlabelled images") if joint else (transfers, "Pretraining")
    best = max(rows, key=_accuracy)
    gain = 100 * (best["val_accuracy"] - scratch[0]["val_accuracy"])
    n = best["n"]
    # The interval of one accuracy is a rough, careful yardstick for a paired difference.
    wide = 100 * (best["val_interval"][1] - best["val_interval"][0]) / 2
    size = f"{abs(gain):.1f} points on {n} held-out images"
    if abs(gain) < 0.05:
        return f"{name} made no difference here: {n} held-out images see none."
    direction = "helped" if gain > 0 else "hurt"
    if abs(gain) > wide:
        return f"{name} {direction} here, by {size}."
    seems = "seem" if joint else "seems"
    return (
        f"{name} {seems} to have {direction}, by {size}, but so few images cannot tell such a "
        f"difference from chance (each accuracy is uncertain by about ±{wide:.0f} points)."
    )


def next_steps(result: Result) -> list[str]:
    """What to do next, most useful first."""
    rules = (_sealed, _baseline_wins, _small_validation, _worse_than_pca, _overconfident, _weakest)
    return [sentence for rule in rules if (sentence := rule(result))]


def _rows(result: Result, kind: str) -> list[Result]:
    return [row for row in result["comparison"] if row["kind"] == kind]


def _accuracy(row: Result) -> float:
    return float(row["val_accuracy"])


def _sealed(result: Result) -> str | None:
    if result["test"] is not None or not result["data"]["counts"]["test"]:
        return None
    return (
        "When all choices are made, open the sealed test set once: "
        f"fewlabels test {result['run']}. Every opening is recorded."
    )


def _baseline_wins(result: Result) -> str | None:
    baselines = _rows(result, "baseline")
    if not baselines:
        return None
    best = max(baselines, key=_accuracy)
    if best["val_accuracy"] < result["val_accuracy"] or best["name"] == result.get("chosen"):
        return None
    return (
        f"The baseline {best['name'].replace('_', ' ')} does as well or better on validation "
        f"({best['val_accuracy']:.1%} against {result['val_accuracy']:.1%}) and costs seconds. "
        "Use it, or try another recipe or more augmentation."
    )


def _small_validation(result: Result) -> str | None:
    if result["validation"] is None:
        return (
            "With one label in a class nothing can be held out, so nobody knows how good this is. "
            "Label one more image of each class: then the report can say."
        )
    n = result["validation"]["num_images"]
    if n >= SMALL_VALIDATION:
        return None
    low, high = result["val_interval"]
    return (
        f"{n} validation images leave the accuracy uncertain between {low:.0%} and {high:.0%}: "
        "they cannot tell close candidates apart. Run fewlabels compare, which repeats the "
        "comparison over many draws, or label more images."
    )


def _worse_than_pca(result: Result) -> str | None:
    pretraining = result["pretraining"]
    if pretraining is None or pretraining["error"] <= pretraining["pca_error"]:
        return None
    return (
        f"The autoencoder draws worse than PCA of the same width ({pretraining['error']:.4f} "
        f"against {pretraining['pca_error']:.4f} squared error per pixel). That is expected when "
        "it was trained on masked images or is as wide as the image; otherwise train it longer."
    )


def _overconfident(result: Result) -> str | None:
    shown = result["test"] or result["validation"]
    if not shown or shown["calibration_error"] < 0.1:
        return None
    return (
        f"The probabilities are off by {shown['calibration_error']:.0%} on average. Rank by them, "
        "but do not read them as chances."
    )


def _weakest(result: Result) -> str | None:
    shown = result["test"] or result["validation"]
    if not shown:
        return None
    known = [
        (r, n) for r, n in zip(shown["recall"], shown["class_names"], strict=True) if r is not None
    ]
    if not known:
        return None
    recall, name = min(known)
    if recall > 0.9 * shown["accuracy"]:
        return None
    return (
        f"The class {name} is recognised least often ({recall:.0%} of its images). "
        "New labels help there most."
    )
