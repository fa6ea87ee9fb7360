"""Write the speed part of docs/benchmarks.md from benchmarks/results/speed.json.

python -m benchmarks.speed.tables
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from benchmarks.pages import BENCHMARKS, ROOT, write_block

RESULTS = ROOT / "benchmarks" / "results" / "speed.json"


@dataclass(frozen=True)
class Comparison:
    """One row: ours against the best of some peers, with the ratio that was set as a goal."""

    task: str
    what: str
    ours: str
    peers: tuple[str, ...]
    goal: float | None


COMPARISONS = (
    Comparison(
        "autoencoder",
        "autoencoder epoch; Lightning as it comes (float32)",
        "fewlabels",
        ("Lightning, 0 workers", "Lightning, 2 workers"),
        5,
    ),
    Comparison("autoencoder", "the same; Keras", "fewlabels", ("Keras",), 6),
    Comparison("autoencoder", "the same; fastai", "fewlabels", ("fastai",), 5),
    Comparison(
        "autoencoder", "the same; Keras told to use bfloat16", "fewlabels", ("Keras bf16",), None
    ),
    Comparison(
        "autoencoder",
        "the same; Lightning told to use bfloat16",
        "fewlabels",
        ("Lightning bf16, 0 workers", "Lightning bf16, 2 workers"),
        None,
    ),
    Comparison(
        "autoencoder",
        "the same, both in float32; Lightning",
        "fewlabels, float32",
        ("Lightning, 0 workers", "Lightning, 2 workers"),
        None,
    ),
    Comparison(
        "augment_digits",
        "affine and elastic, 28×28 grey; kornia",
        "fewlabels",
        ("kornia", "kornia, fitted kernel"),
        10,
    ),
    Comparison(
        "augment_strong",
        "strong policy, 32×32 colour, one process; torchvision v2 image by image",
        "fewlabels",
        ("torchvision v2",),
        10,
    ),
    Comparison(
        "augment_strong",
        "the same; torchvision v2 in a `DataLoader` with 2 workers",
        "fewlabels",
        ("torchvision v2, 2 workers",),
        None,
    ),
    Comparison(
        "lenet",
        "LeNet-5 training, augmented; Lightning as it comes (float32)",
        "fewlabels",
        ("Lightning, 0 workers", "Lightning, 2 workers"),
        3,
    ),
    Comparison(
        "lenet",
        "the same; Lightning told to use bfloat16",
        "fewlabels",
        ("Lightning bf16, 0 workers", "Lightning bf16, 2 workers"),
        None,
    ),
    Comparison(
        "lenet",
        "the same, both in float32",
        "fewlabels, float32",
        ("Lightning, 0 workers", "Lightning, 2 workers"),
        None,
    ),
    Comparison(
        "opening",
        "first opening of 60,000 JPEG files; ImageFolder with 2 workers",
        "fewlabels, first opening",
        ("ImageFolder, 2 workers",),
        1.5,
    ),
    Comparison(
        "prediction_mlp",
        "prediction, MLP; scikit-learn on `X / 255.0` (float64)",
        "fewlabels",
        ("scikit-learn, float64",),
        3,
    ),
    Comparison(
        "prediction_mlp",
        "the same; scikit-learn on float32",
        "fewlabels",
        ("scikit-learn, float32",),
        3,
    ),
    Comparison(
        "prediction_mlp",
        "the same; Keras",
        "fewlabels",
        ("Keras, batch 32", "Keras, batch 1024"),
        2,
    ),
    Comparison(
        "prediction_mlp",
        "the same; Keras told to use bfloat16",
        "fewlabels",
        ("Keras bf16, batch 1024",),
        None,
    ),
    Comparison(
        "prediction_lenet",
        "prediction, LeNet-5; Keras",
        "fewlabels",
        ("Keras, batch 32", "Keras, batch 1024"),
        2,
    ),
    Comparison(
        "prediction_lenet",
        "the same; Keras told to use bfloat16",
        "fewlabels",
        ("Keras bf16, batch 1024",),
        None,
    ),
)

AUTOENCODER = (784, 1000, 500, 250, 500, 1000, 784)
CLASSIFIER = (784, 1000, 800, 800, 10)

ABOUT = """\
## Speed, side by side

Written by `benchmarks/speed/tables.py` from `benchmarks/results/speed.json`; measure it again with
`make bench-speed`. Every contestant is a process of its own, which waits while another one runs;
they take turns, forwards and backwards. A ratio is taken within each round; the table gives the
median over the rounds and, in brackets, the smallest and the largest. Where several settings of a
peer were tried, its best one counts.

What each side does: fewlabels with its defaults, which on a processor with bfloat16 instructions
means bfloat16 products (rows with "float32" say so); the peers as their own guides show them, at
their defaults, which means float32. So some ratios compare bfloat16 with float32: the rows that
compare like with like stand below them. The code of both sides is in `benchmarks/speed/`.
"""


def main() -> None:
    results = json.loads(RESULTS.read_text())
    parts = [ABOUT, hardware(results), *comparison_table(results)]
    for name, lines in (
        ("ceiling", shares),
        ("profile", profile),
        ("loop", overhead),
        ("opening", second),
        ("scaling", scaling),
        ("accuracy", accuracy),
    ):
        if name in results:
            parts += ["", *lines(results)]
    parts += missed(results)
    write_block(BENCHMARKS, "speed", parts)


def hardware(results: dict[str, Any]) -> str:
    machine = results["autoencoder"]["machine"]
    versions = results["peers"]["versions"]
    peers = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"Machine: {machine['processor']}, {machine['threads']} cores, no GPU; "
        f"torch {machine['torch']}, Python {machine['python']}. Peers: {peers}. "
        f"Measured on {results['autoencoder']['date']}.\n"
    )


def comparison_table(results: dict[str, Any]) -> list[str]:
    lines = [
        "| what; against whom | fewlabels, images/s | peer, images/s | ratio | goal |",
        "|---|---|---|---|---|",
    ]
    for row in COMPARISONS:
        if row.task not in results:
            continue
        speeds = results[row.task]["images_per_second"]
        best = max(row.peers, key=lambda name: median(speeds[name]))
        ratios = [ours / peer for ours, peer in zip(speeds[row.ours], speeds[best], strict=True)]
        middle = median(ratios)
        goal = "" if row.goal is None else f"{row.goal:g}×, {reached(middle >= row.goal)}"
        chosen = f" ({best})" if len(row.peers) > 1 else ""
        lines.append(
            f"| {row.what} | {median(speeds[row.ours]):,.0f} | {median(speeds[best]):,.0f}{chosen} "
            f"| {middle:.2f}× ({min(ratios):.2f}–{max(ratios):.2f}, n = {len(ratios)}) | {goal} |"
        )
    return lines


def missed(results: dict[str, Any]) -> list[str]:
    """For goals that were not reached: what the ratio would be at the machine's own limit."""
    operations = {
        "autoencoder": 6 * products(AUTOENCODER) - 2 * AUTOENCODER[0] * AUTOENCODER[1],
        "prediction_mlp": 2 * products(CLASSIFIER),
    }
    rounds = results["ceiling"]["rounds"]
    limit = median(one["ceilings"][1]["value"] for one in rounds) * 1e9
    lines = []
    for row in COMPARISONS:
        speeds = results[row.task]["images_per_second"]
        peer = max(median(speeds[name]) for name in row.peers)
        if row.goal is None or row.task not in operations:
            continue
        if median(speeds[row.ours]) / peer >= row.goal:
            continue
        at_limit = limit / operations[row.task]
        lines.append(
            f"- {row.what}: the bare bfloat16 products of this machine would allow "
            f"{at_limit:,.0f} images/s, {at_limit / peer:.1f} times the peer's {peer:,.0f}; "
            f"fewlabels reaches {median(speeds[row.ours]) / at_limit:.0%} of that."
        )
    if not lines:
        return []
    return ["", "### Goals that were not reached, and what the machine would allow", "", *lines]


def products(widths: tuple[int, ...]) -> int:
    return sum(inputs * outputs for inputs, outputs in pairwise(widths))


def reached(yes: bool) -> str:
    return "reached" if yes else "**not reached**"


def shares(results: dict[str, Any]) -> list[str]:
    lines = ["### Share of the machine's limit (`fewlabels bench`)", ""]
    lines += ["| precision | part | images/s | share | of |", "|---|---|---|---|---|"]
    rounds = results["ceiling"]["rounds"]
    for precision in ("32", "bf16"):
        chosen = [one for one in rounds if one["precision"] == precision]
        for place, part in enumerate(chosen[0]["speeds"]):
            speed = median(one["speeds"][place]["images_per_second"] for one in chosen)
            share = median(one["speeds"][place]["share"] for one in chosen)
            lines.append(
                f"| {precision} | {part['name']} | {speed:,.0f} | {share:.0%} | {part['limit']} |"
            )
    ceilings = rounds[0]["ceilings"]
    lines += [
        "",
        "Limits: "
        + "; ".join(
            f"{row['name']} {median(one['ceilings'][place]['value'] for one in rounds):,.0f} "
            f"{row['unit']}"
            for place, row in enumerate(ceilings)
        )
        + f" (medians of {len(rounds)}).",
    ]
    share = median(one["speeds"][0]["share"] for one in rounds if one["precision"] == "32")
    lines.append(
        f"\nGoal: 85 % of the float32 limit in the pretraining epoch, {reached(share >= 0.85)}; "
        "75 % of the bfloat16 limit where the processor has AMX, which this one has not."
    )
    return lines


def profile(results: dict[str, Any]) -> list[str]:
    shares = results["profile"]["shares"]
    lines = ["### Where the time of the autoencoder epoch goes", ""]
    lines += ["| kind of operation | in float32 | in bfloat16 |", "|---|---|---|"]
    for kind, share in shares["32"].items():
        lines.append(f"| {kind} | {share:.1%} | {shares['bf16'].get(kind, 0.0):.1%} |")
    lines += [
        "",
        "Shares of the processor's own time, by torch's profiler over one epoch. Even with bare "
        "products as fast as the limit, the rest would keep the float32 epoch at about "
        f"{shares['32']['matrix products']:.0%} of it.",
    ]
    return lines


def overhead(results: dict[str, Any]) -> list[str]:
    speeds = results["loop"]["images_per_second"]
    ratios = [
        bare / ours for bare, ours in zip(speeds["bare loop"], speeds["fewlabels"], strict=True)
    ]
    over = median(ratios) - 1
    return [
        "### Cost of the loop",
        "",
        f"History, progress and checkpoints cost {over:.1%} of a bare loop of the same steps "
        f"({min(ratios) - 1:.1%} to {max(ratios) - 1:.1%}, n = {len(ratios)}; "
        f"goal: under 5 %, {reached(over < 0.05)}).",
    ]


def second(results: dict[str, Any]) -> list[str]:
    speeds = results["opening"]["images_per_second"]["fewlabels, second opening"]
    seconds = [60_000 / speed for speed in speeds]
    return [
        "### Second opening",
        "",
        f"60,000 JPEG files from the cache: {median(seconds):.2f} s ({min(seconds):.2f}–"
        f"{max(seconds):.2f}, n = {len(seconds)}; goal: under 1 s, {reached(max(seconds) < 1)}).",
    ]


def scaling(results: dict[str, Any]) -> list[str]:
    rows, peak = results["scaling"]["rows"], results["scaling"]["peak_bytes"]
    lines = ["### From ten thousand to a million images", ""]
    lines += ["32×32 colour, mapped from disk, pretraining, taking turns in one process.", ""]
    lines += ["| images | images/s |", "|---|---|"]
    middles = []
    for count in sorted({row["images"] for row in rows}):
        speeds = [row["images_per_second"] for row in rows if row["images"] == count]
        middles.append(median(speeds))
        spread = f"{min(speeds):,.0f}–{max(speeds):,.0f}, n = {len(speeds)}"
        lines.append(f"| {count:,} | {middles[-1]:,.0f} ({spread}) |")
    spread_of_all = 1 - min(middles) / max(middles)
    lines += [
        "",
        f"The slowest is {spread_of_all:.0%} below the fastest (goal: within 15 %, "
        f"{reached(spread_of_all <= 0.15)}); the process never held more than {peak / 1e9:.2f} GB "
        f"(goal: under 1.5 GB at a million images, {reached(peak < 1.5e9)}).",
    ]
    return lines


def accuracy(results: dict[str, Any]) -> list[str]:
    return ["### Accuracy in bfloat16", "", *results["accuracy"]["lines"]]


if __name__ == "__main__":
    main()
