"""What fewlabels does in each comparison: its own ways of working, at its default settings."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path

import data
import numpy as np
import torch

from fewlabels.augment.policies import POLICIES, augment
from fewlabels.blocks.losses import ClassificationConfig
from fewlabels.data import load_images
from fewlabels.data.batches import Batches
from fewlabels.networks.classifier import Classifier
from fewlabels.networks.lenet import LeNetConfig
from fewlabels.networks.mlp import MLPConfig
from fewlabels.pretext.autoencoder import Autoencoder, AutoencoderConfig
from fewlabels.training.device import Compute, choose, keep_freed_memory
from fewlabels.training.master_weights import MasterWeights
from fewlabels.training.optimisers import AdamConfig, build_optimisers
from fewlabels.training.settings import TrainingConfig
from fewlabels.training.trainer import Trainer
from fewlabels.transfer.full import Full
from fewlabels.transfer.supervised import Supervised
from fewlabels.workflows.model import Model

Run = Callable[[], int]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _autoencoder(shape: tuple[int, int, int] = (1, 28, 28)) -> Autoencoder:
    config = MLPConfig(widths=(1000, 500, 250), norm="batch", centre="none")
    encoder = config.build(shape, _generator())
    decoder = config.build_decoder(shape, encoder.num_features, "sigmoid", _generator())
    return Autoencoder(AutoencoderConfig(), encoder, decoder)


def _batches(images: np.ndarray, labels: np.ndarray | None, size: int, policy: str) -> Batches:
    augmentation = partial(augment, policy=POLICIES[policy]) if policy != "none" else None
    return Batches(
        images,
        labels,
        batch_size=size,
        device=torch.device("cpu"),
        augmentation=augmentation,
        seed=0,
    )


def autoencoder(precision: str = "auto", epochs: str = "1") -> Run:
    """Epochs by the trainer, with history, progress and checkpoints on."""
    compute = choose("cpu", precision)
    images = data.mnist()[0][:, None].copy()
    config = TrainingConfig(epochs=int(epochs), optimiser=AdamConfig())
    objective = _autoencoder()
    batches = _batches(images, None, 512, "none")
    folder = tempfile.mkdtemp()

    def run() -> int:
        checkpoint = Path(folder, "phase.safetensors")
        checkpoint.unlink(missing_ok=True)
        trainer = Trainer("autoencoder", config, compute, seed=0, checkpoint=checkpoint)
        trainer.run(objective, batches)
        return int(epochs) * len(images)

    return run


def bare_loop(epochs: str) -> Run:
    """The same steps without trainer: no history, progress, schedule, checks or checkpoints."""
    compute = choose("cpu")
    images = data.mnist()[0][:, None].copy()
    objective, batches = _autoencoder(), _batches(images, None, 512, "none")
    keep_freed_memory()
    weights = MasterWeights(objective, compute.precision == "bf16")
    groups = weights.groups(objective.parameter_groups())
    optimiser = build_optimisers(AdamConfig(), groups)["main"]

    def run() -> int:
        objective.train()
        with weights.lowered():
            for batch in chain.from_iterable(map(batches.epoch, range(int(epochs)))):
                with compute.autocast():
                    loss = objective.loss(batch, 0).loss
                loss.backward()
                weights.take_gradients()
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                weights.spread()
        return int(epochs) * len(images)

    return run


def augmentation(policy: str) -> Run:
    """One policy over batches in memory, float32 to float32."""
    if policy == "digits":
        images = torch.from_numpy(data.mnist()[0][:4096, None] / np.float32(255)).split(512)
    else:
        pixels = data.cifar_pixels()[0][:4096].transpose(0, 3, 1, 2)
        images = torch.from_numpy(pixels / np.float32(255)).split(256)
    draw = _generator()

    def run() -> int:
        for batch in images:
            augment(batch, draw, POLICIES[policy])
        return sum(len(batch) for batch in images)

    return run


def lenet(precision: str = "auto") -> Run:
    """An epoch of LeNet-5 on 20,000 colour images, batch 256, mirrored and shifted."""
    pixels, labels = data.cifar_pixels()
    images = np.ascontiguousarray(pixels[:20_000].transpose(0, 3, 1, 2))
    encoder = LeNetConfig().build((3, 32, 32), _generator())
    classifier = Classifier(encoder, 10, _generator())
    objective = Supervised(classifier, ClassificationConfig(), Full())
    batches = _batches(images, labels[:20_000], 256, "weak")
    config = TrainingConfig(epochs=1, optimiser=AdamConfig())
    compute = choose("cpu", precision)

    def run() -> int:
        Trainer("lenet", config, compute, seed=0).run(objective, batches)
        return len(images)

    return run


def first_opening() -> Run:
    """Reading a folder of JPEG files for the first time, its cache written to disk."""
    cache = tempfile.mkdtemp()
    os.environ["FEWLABELS_CACHE"] = cache

    def run() -> int:
        shutil.rmtree(cache)
        return len(load_images(os.environ["BENCHMARK_FOLDER"]))

    return run


def second_opening() -> Run:
    """Reading it again."""
    os.environ["FEWLABELS_CACHE"] = tempfile.mkdtemp()
    return lambda: len(load_images(os.environ["BENCHMARK_FOLDER"]))


def prediction(network: str, precision: str = "auto") -> Run:
    """Probabilities of MNIST's 10,000 test images, from uint8."""
    images = data.mnist("t10k")[0][:, None].copy()
    config = MLPConfig(widths=(1000, 800, 800)) if network == "mlp" else LeNetConfig()
    classifier = Classifier(config.build((1, 28, 28), _generator()), 10, _generator())
    model = Model(classifier, config, (1, 28, 28), ())
    compute: Compute = choose("cpu", precision)
    return lambda: len(model.predict(images, compute))
