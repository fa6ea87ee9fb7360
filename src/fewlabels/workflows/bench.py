"""How fast this machine and this program are: each part's speed beside the machine's own limit.

The images are made up: no part's speed hangs on what they show. Limits are measured in the same
minute as what they limit, as machines differ and slow down.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import fewlabels
from fewlabels.augment.policies import POLICIES, augment
from fewlabels.data import load_images
from fewlabels.data.batches import as_tensor, to_float
from fewlabels.data.selection import Selection
from fewlabels.evaluation.predict import predict_probabilities
from fewlabels.networks.classifier import Classifier
from fewlabels.progress import say
from fewlabels.randomness import generator
from fewlabels.training.device import PRECISIONS, Compute, environment
from fewlabels.workflows.phases import Context
from fewlabels.workflows.settings import load_settings

WIDTHS = (784, 1000, 500, 250, 500, 1000, 784)
BATCH_SIZE = 512
NUM_IMAGES = 20_480  # 40 batches
NUM_FILES = 10_000
REPETITIONS = 5
WORTH_NOTING = 0.7
"""From this share of the limit on, the machine is called the limit."""


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What the machine can do at best.

    Attributes:
        name: for the table.
        value: median of the repetitions.
        unit: of the value.
    """

    name: str
    value: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What one part of the program does.

    Attributes:
        name: for the table.
        images_per_second: median of the repetitions.
        share: of the limit, 0…1 give or take noise.
        limit: what the limit is, in words.
    """

    name: str
    images_per_second: float
    share: float
    limit: str


def bench(device: str = "auto", precision: str = "auto") -> dict[str, Any]:
    """Measure the machine, then the program; about half a minute on two cores.

    Args:
        device: see `fewlabels.training.device.choose`.
        precision: likewise.

    Returns:
        "ceilings" and "speeds" as plain rows, "verdict" in words, and the machine's facts.

    Raises:
        ConfigError: the device is not there.
        UnknownNameError: no such device or precision.
    """
    context = _context(device, precision)
    compute = context.compute
    say(f"Measuring on {compute.device} in {compute.precision} precision …")
    products = {name: matrix_ceiling(compute.device, name) for name in ("32", "bf16")}
    copying = copy_ceiling(compute.device)
    speeds = [
        pretraining_speed(context, products[compute.precision]),
        prediction_speed(context, products[compute.precision]),
        augmentation_speed(compute, "digits", (BATCH_SIZE, 1, 28, 28)),
        augmentation_speed(compute, "strong", (256, 3, 32, 32)),
        decoding_speed(),
    ]
    return {
        "ceilings": [asdict(ceiling) for ceiling in (*products.values(), copying)],
        "speeds": [asdict(speed) for speed in speeds],
        "verdict": verdict(speeds),
        "device": str(compute.device),
        "precision": compute.precision,
        "fewlabels": fewlabels.__version__,
        **environment(),
    }


def verdict(speeds: Sequence[Speed]) -> str:
    """Which parts the machine limits, and where the program leaves room."""
    at_limit = [speed.name for speed in speeds if speed.share >= WORTH_NOTING]
    below = [speed.name for speed in speeds if speed.share < WORTH_NOTING]
    sentences = []
    if at_limit:
        sentences.append(f"The machine is the limit of: {', '.join(at_limit)}.")
    if below:
        sentences.append(f"There is room between program and machine in: {', '.join(below)}.")
    return " ".join(sentences)


def matrix_ceiling(device: torch.device, precision: str) -> Ceiling:
    """Speed of the bare matrix products of one autoencoder step, forward and backward."""
    dtype = PRECISIONS[precision]
    seconds, operations = 0.0, 0
    for position, (inputs, outputs) in enumerate(pairwise(WIDTHS)):
        x, dy, weight = (
            torch.randn(shape, device=device).to(dtype)
            for shape in ((BATCH_SIZE, inputs), (BATCH_SIZE, outputs), (outputs, inputs))
        )
        products: list[Callable[[], object]] = [
            partial(torch.nn.functional.linear, x, weight),
            partial(torch.mm, dy.t(), x),
        ]
        if position:  # nobody asks for the gradient of the pixels
            products.append(partial(torch.mm, dy, weight))
        for product in products:
            seconds += _seconds(product, device, inner=10)
            operations += 2 * BATCH_SIZE * inputs * outputs
    name = {"32": "float32", "bf16": "bfloat16"}[precision]
    return Ceiling(name=f"matrix product, {name}", value=operations / seconds / 1e9, unit="GFLOP/s")


def copy_ceiling(device: torch.device) -> Ceiling:
    """Bytes read and written in a second by copying more than the processor's cache holds."""
    source = torch.rand(1 << 25, device=device)  # 128 MiB
    target = torch.empty_like(source)
    seconds = _seconds(partial(target.copy_, source), device)
    return Ceiling(name="memory copy", value=2 * source.nbytes / seconds / 1e9, unit="GB/s")


def pretraining_speed(context: Context, ceiling: Ceiling) -> Speed:
    """An epoch of an autoencoder as `fit` trains it, against its matrix products alone."""
    images = _noise_images(NUM_IMAGES, 1, 28)
    settings = context.settings
    encoder = context.new_encoder(images, "bench")
    objective = settings.pretext.build(encoder, settings.network, generator(0, "bench"))
    selection = Selection(images, np.arange(len(images)))
    batches = context.batches(selection, None, BATCH_SIZE, "bench", augmented=False)
    with FlopCounterMode(display=False) as counter:
        batch = next(batches.epoch(0))
        objective.to(context.compute.device).loss(batch, 0).loss.backward()
    operations = counter.get_total_flops() / len(batch.images)
    objective.zero_grad(set_to_none=True)
    phase = context.trainer("bench", settings.pretraining).run(objective, batches)
    # The first epoch also warms up.
    speed = statistics.median(float(row["images_per_second"]) for row in phase.history[1:])
    return Speed(
        name="pretraining",
        images_per_second=speed,
        share=speed * operations / (ceiling.value * 1e9),
        limit=ceiling.name,
    )


def prediction_speed(context: Context, ceiling: Ceiling) -> Speed:
    """A classifier's probabilities, against its matrix products alone."""
    images, compute = _noise_images(NUM_IMAGES // 2, 1, 28), context.compute
    encoder = context.new_encoder(images, "bench")
    model = Classifier(encoder, 10, generator(0, "bench")).to(compute.device)
    with FlopCounterMode(display=False) as counter:
        model(to_float(as_tensor(images[:64]).to(compute.device)))
    operations = counter.get_total_flops() / 64
    predict = partial(
        predict_probabilities, model, images, device=compute.device, precision=compute.precision
    )
    speed = len(images) / _seconds(predict, compute.device)
    return Speed(
        name="prediction",
        images_per_second=speed,
        share=speed * operations / (ceiling.value * 1e9),
        limit=ceiling.name,
    )


def augmentation_speed(compute: Compute, policy: str, shape: tuple[int, int, int, int]) -> Speed:
    """One policy on batches in memory, against torch's bare sampling of a ready grid."""
    images = torch.rand(shape, device=compute.device)
    draw = generator(0, "bench", device=compute.device)
    change = partial(augment, images, draw, POLICIES[policy])
    seconds = _seconds(change, compute.device, inner=5)
    grid = 2 * torch.rand(shape[0], *shape[2:], 2, device=compute.device) - 1
    sample = partial(torch.nn.functional.grid_sample, images, grid, align_corners=False)
    bare = _seconds(sample, compute.device, inner=5)
    return Speed(
        name=f"augmentation {policy}, {shape[1]}×{shape[2]}×{shape[3]}",
        images_per_second=len(images) / seconds,
        share=bare / seconds,
        limit="bare sampling of a grid",
    )


def decoding_speed() -> Speed:
    """Small JPEG files of a folder, against the bare decoder on bytes in memory, on all cores."""
    encoded = _jpeg_files(NUM_FILES)
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(encoded):
            Path(folder, f"{number:05d}.jpg").write_bytes(content)
        read = partial(load_images, folder, cache=False)
        seconds = _seconds(read, torch.device("cpu"), repetitions=3)
    bare = _seconds(partial(_decode_bare, encoded), torch.device("cpu"), repetitions=3)
    num_cores = os.cpu_count() or 1
    return Speed(
        name="decoding JPEG, 3×32×32",
        images_per_second=len(encoded) / seconds,
        share=bare / num_cores / seconds,
        limit=f"bare decoder on {num_cores} cores",
    )


def _jpeg_files(count: int) -> list[bytes]:
    contents = []
    for pixels in _noise_images(256, 3, 8):
        stream = io.BytesIO()
        # Enlarged, as a photograph's neighbouring pixels are alike.
        Image.fromarray(pixels.transpose(1, 2, 0)).resize((32, 32)).save(stream, "jpeg")
        contents.append(stream.getvalue())
    return [contents[number % len(contents)] for number in range(count)]


def _decode_bare(encoded: Sequence[bytes]) -> None:
    for content in encoded:
        Image.frombytes("RGB", (32, 32), content, "jpeg", "RGB", "")


def _context(device: str, precision: str) -> Context:
    return Context.of(
        load_settings(
            "autoencoder",
            assignments=[
                f"network.widths={list(WIDTHS[1:4])}",
                "network.latent=none",
                "network.norm=batch",
                "network.activation=relu",
                "pretraining.optimiser.name=adam",
                f"pretraining.epochs={REPETITIONS + 1}",
                f"pretraining.batch_size={BATCH_SIZE}",
            ],
            flags={"run": {"device": device, "precision": precision}},
        )
    )


def _noise_images(count: int, channels: int, side: int) -> npt.NDArray[np.uint8]:
    shape = (count, channels, side, side)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _seconds(
    work: Callable[[], object],
    device: torch.device,
    *,
    inner: int = 1,
    repetitions: int | None = None,
) -> float:
    """Median seconds of one call, after one to warm up."""
    work()
    times = []
    for _ in range(repetitions or REPETITIONS):
        _wait_for(device)
        started = time.perf_counter()
        for _ in range(inner):
            work()
        _wait_for(device)
        times.append((time.perf_counter() - started) / inner)
    return statistics.median(times)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
