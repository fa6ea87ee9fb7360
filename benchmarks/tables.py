"""Write the measured numbers into the README, from benchmarks/results/main_job.json.

python -m benchmarks.tables
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.pages import README, ROOT, write_block

RESULTS = ROOT / "benchmarks" / "results" / "main_job.json"


def main() -> None:
    results = json.loads(RESULTS.read_text())
    write_block(README, "accuracy", accuracy(results))
    write_block(README, "others", others(results))


def accuracy(results: dict[str, Any]) -> list[str]:
    section = results["protocols"]
    lines = [
        "| labels | augmentation | from scratch | pretrained, `full` | difference, 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for entry in section["summary"]:
        for key, labels in (
            ("test_accuracy_before_refit", "100 to train on"),
            ("test_accuracy", {"100/100/100": "100 + 100 after the refit", "300": "300"}),
        ):
            if key not in entry:
                continue
            name = labels if isinstance(labels, str) else labels[entry["protocol"]]
            scratch, pretrained = (percent(*entry[key][side]) for side in ("scratch", "pretrained"))
            gap = entry[key]["difference"]
            lines.append(
                f"| {name} | {entry['augmentation'].replace('auto', 'digits')} | {scratch} | "
                f"{pretrained} | {100 * gap['mean']:+.2f} "
                f"({100 * gap['low']:+.2f} … {100 * gap['high']:+.2f}) |"
            )
    machine = section["machine"]
    n = section["summary"][0]["n"]
    lines += [
        "",
        f"Mean ± standard deviation over {n} draws of the labels (seeds 0–{n - 1}, one pretraining "
        f"each), judged on the 10,000 official test images. {machine['processor']}, "
        f"{machine['threads']} threads, torch {machine['torch']}, commit {section['commit']}, "
        f"{section['date']}.",
    ]
    return lines


def percent(mean: float, deviation: float) -> str:
    return f"{100 * mean:.2f} ± {100 * deviation:.2f} %"


def others(results: dict[str, Any]) -> list[str]:
    lines = ["| what | measured |", "|---|---|"]
    rows = results["autoencoder"]["rows"]
    errors = [row["test_error"] for row in rows]
    pca = results["autoencoder"]["pca_test_error"]
    lines.append(
        f"| autoencoder, 20 latent numbers: squared error per pixel on the test images (n = "
        f"{len(rows)} seeds) | {sum(errors) / len(errors):.5f} ({min(errors):.5f} … "
        f"{max(errors):.5f}), {sum(errors) / len(errors) / pca:.3f} of PCA's {pca}, in "
        f"{max(row['seconds'] for row in rows):.0f} s at most |"
    )
    for row in results["linear"]["rows"]:
        excess = 100 * (row["train_error"] / row["pca_train_error"] - 1)
        lines.append(
            f"| linear autoencoder, width {row['width']}: training error above PCA's, largest "
            f"principal angle | {excess:+.3f} %, {row['largest_angle_degrees']:.2f}° |"
        )
    fit = results["fit"]
    lines.append(
        "| `fewlabels fit mnist --num-labels 300 --recipe default`, all phases and report | "
        f"{fit['seconds']:.0f} s, peak memory {fit['peak_memory_megabytes'] / 1000:.2f} GB |"
    )
    lines.append(
        f"| `fewlabels --help`, whole process, median of {results['start']['n']} | "
        f"{results['start']['median_seconds']:.2f} s |"
    )
    return lines


if __name__ == "__main__":
    main()
