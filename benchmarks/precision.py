"""Does training in bfloat16 cost accuracy? The main job in both precisions, pair by pair.

    FEWLABELS_DATA=... python benchmarks/precision.py [DRAWS]

MNIST with 300 labels, the default recipe, pretrained encoder trained on in full; each draw of the
labels once in bfloat16 and once in float32, all seeds equal. Judged on the official test images,
which choose nothing. The lines go to benchmarks/results/speed.json and from there to
docs/benchmarks.md; they also give the difference to the measurement before the core was rebuilt,
from benchmarks/results/main_job.json, where that has the same draws.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fewlabels.data.selection import Selection
from fewlabels.evaluation.metrics import paired_difference
from fewlabels.files import write_json
from fewlabels.workflows.model import Model
from fewlabels.workflows.phases import Context, pretrain, train_classifier
from fewlabels.workflows.prepare import labelled, prepare
from fewlabels.workflows.settings import load_settings

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    rows = [
        {"draw": draw, "precision": precision, **accuracies(draw, precision)}
        for draw in range(draws)
        for precision in ("bf16", "32")
    ]
    results = json.loads((RESULTS / "speed.json").read_text())
    results["accuracy"] = {"rows": rows, "lines": sentences(rows)}
    write_json(RESULTS / "speed.json", results)


def accuracies(draw: int, precision: str) -> dict[str, float]:
    found, pretrained = {}, None
    for policy in ("none", "auto"):
        settings = load_settings(
            assignments=[
                "data.source=mnist",
                "data.num_labels=300",
                f"data.label_seed={draw}",
                "split.shares='75/25/0'",
                f"split.seed={draw}",
                f"run.seed={draw}",
                f"run.precision={precision}",
                f"augment.name={policy}",
            ]
        )
        prepared, data = prepare(settings)
        context = Context.of(settings)
        pool = Selection(prepared.data.images, prepared.split.pretraining(len(prepared.data)))
        pretrained = pretrained or pretrain(context, pool)
        trained = train_classifier(
            context,
            "refit",
            prepared.training + prepared.validation,
            None,
            prepared.data.num_classes,
            encoder_state=pretrained.encoder.state_dict(),
            strategy="full",
            statistics_from=pool,
        )
        test = labelled(data, prepared.split.test)
        model = Model(trained.classifier, settings.network, prepared.data.image_shape, ())
        predicted = model.predict(test.images, context.compute).argmax(axis=1)
        found[policy] = float((predicted == test.labels).mean())
    print(draw, precision, found, flush=True)
    return found


def sentences(rows: list[dict[str, Any]]) -> list[str]:
    before = json.loads((RESULTS / "main_job.json").read_text())["protocols"]["rows"]
    lines = [
        "MNIST, 300 labels, pretrained and then trained in full; all seeds equal, so the draws are "
        "pairs. Official test images.",
        "",
        "| augmentation | bfloat16 | float32 | difference, 95 % interval | before the fast core |",
        "|---|---|---|---|---|",
    ]
    for policy in ("none", "auto"):
        low, full = (
            [row[policy] for row in rows if row["precision"] == precision]
            for precision in ("bf16", "32")
        )
        difference = paired_difference(low, full)
        old = [
            row["pretrained"]["test_accuracy"]
            for row in before
            if (row["protocol"], row["augmentation"]) == ("300", policy) and row["draw"] < len(low)
        ]
        lines.append(
            f"| {policy} | {shown(low)} | {shown(full)} | {100 * difference.mean:+.2f} points "
            f"({100 * difference.low:+.2f} … {100 * difference.high:+.2f}), n = {len(low)} "
            f"| {shown(old)}, n = {len(old)} |"
        )
    return lines


def shown(values: list[float]) -> str:
    return f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f} %"


if __name__ == "__main__":
    main()
