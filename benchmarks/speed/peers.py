"""What people use today for the same work, as their own guides show it, at their defaults."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import data
import numpy as np

Run = Callable[[], int]
WIDTHS = (784, 1000, 500, 250, 500, 1000)


def _torch_autoencoder() -> Any:
    from torch import nn

    layers: list[Any] = []
    for inputs, outputs in pairwise(WIDTHS):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTHS[-1], 784), nn.Sigmoid())


def _lightning_trainer(precision: str) -> Any:
    import logging

    import pytorch_lightning as lightning

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    return lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _loader(dataset: Any, batch_size: int, workers: str) -> Any:
    from torch.utils.data import DataLoader

    count = int(workers)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        num_workers=count,
        persistent_workers=count > 0,
    )


def lightning_autoencoder(workers: str, precision: str = "32-true") -> Run:
    """A LightningModule over the usual Dataset: PIL image, ToTensor, image by image."""
    import pytorch_lightning as lightning
    import torch
    from PIL import Image
    from torch.utils.data import Dataset
    from torchvision.transforms import ToTensor

    pixels = data.mnist()[0]

    class Digits(Dataset):  # as torchvision.datasets.MNIST does it
        transform = ToTensor()

        def __len__(self) -> int:
            return len(pixels)

        def __getitem__(self, index: int) -> Any:
            return self.transform(Image.fromarray(pixels[index]))

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = _torch_autoencoder()

        def training_step(self, batch: Any, position: int) -> Any:
            flat = batch.flatten(1)
            return torch.nn.functional.mse_loss(self.network(flat), flat)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    module, loader = Module(), _loader(Digits(), 512, workers)

    def run() -> int:
        _lightning_trainer(precision).fit(module, loader)
        return len(pixels)

    return run


def _keras(policy: str) -> Any:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    keras.mixed_precision.set_dtype_policy(policy)
    return keras


def keras_autoencoder(policy: str = "float32") -> Run:
    """model.fit on float32 arrays in memory."""
    keras = _keras(policy)

    flat = data.mnist()[0].reshape(-1, 784).astype("float32") / 255
    layers: list[Any] = [keras.Input((784,))]
    for width in WIDTHS[1:]:
        norm = keras.layers.BatchNormalization()
        layers += [keras.layers.Dense(width), norm, keras.layers.ReLU()]
    model = keras.Sequential([*layers, keras.layers.Dense(784, activation="sigmoid")])
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse")

    def run() -> int:
        model.fit(flat, flat, batch_size=512, epochs=1, verbose=0)
        return len(flat)

    return run


def fastai_autoencoder() -> Run:
    """A Learner over tensors in memory; fastai's own DataLoader takes them item by item."""
    import torch
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from fastai.optimizer import Adam

    flat = torch.from_numpy(data.mnist()[0].reshape(-1, 784).astype("float32") / 255)
    pairs = torch.utils.data.TensorDataset(flat, flat)
    loader = DataLoader(pairs, bs=512, shuffle=True, num_workers=0)
    learner = Learner(
        DataLoaders(loader, loader),
        _torch_autoencoder(),
        loss_func=torch.nn.MSELoss(),
        opt_func=Adam,
        train_bn=True,
    )

    def run() -> int:
        learner.fit(1, 1e-3, cbs=[_NoValidation()])
        return len(flat)

    return run


def _NoValidation() -> Any:
    from fastai.callback.core import Callback, CancelValidException

    class NoValidation(Callback):
        def before_validate(self) -> None:
            raise CancelValidException

    return NoValidation()


def kornia_digits(elastic: str) -> Run:
    """Kornia's affine and elastic augmentation on whole batches.

    The affine ranges are those of our policy. The elastic part at its defaults blurs with a kernel
    of 63 × 63, made for larger images; "fitted" has one for 28 × 28, with displacements as smooth
    and as large (a deviation of 1.26 pixels) as our policy's.
    """
    import kornia.augmentation as augmentation
    import torch

    settings = {"kernel_size": (17, 17), "sigma": (4.0, 4.0), "alpha": (1.68, 1.68)}
    change = torch.nn.Sequential(
        augmentation.RandomAffine(14.0, (0.08, 0.08), (0.86, 1.14), 14.0, p=1.0),
        augmentation.RandomElasticTransform(p=1.0, **(settings if elastic == "fitted" else {})),
    )
    batches = torch.from_numpy(data.mnist()[0][:2048, None] / np.float32(255)).split(512)

    def run() -> int:
        with torch.no_grad():
            for batch in batches:
                change(batch)
        return sum(len(batch) for batch in batches)

    return run


def torchvision_strong(workers: str) -> Run:
    """Torchvision v2's RandAugment, crop and mirror, image by image in a Dataset, batch 256."""
    import torch
    from PIL import Image
    from torch.utils.data import Dataset
    from torchvision.transforms import v2

    change = v2.Compose(
        [
            v2.RandomCrop(32, padding=4, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    pixels = data.cifar_pixels()[0][:8192]

    class Pictures(Dataset):  # as torchvision.datasets.CIFAR10 does it
        def __len__(self) -> int:
            return len(pixels)

        def __getitem__(self, index: int) -> Any:
            return change(Image.fromarray(pixels[index]))

    loader = _loader(Pictures(), 256, workers)

    def run() -> int:
        return sum(len(batch) for batch in loader)

    return run


def lightning_lenet(workers: str, precision: str = "32-true") -> Run:
    """LeNet-5 on 20,000 colour images, batch 256, RandomCrop and mirror image by image."""
    import pytorch_lightning as lightning
    import torch
    from PIL import Image
    from torch import nn
    from torch.utils.data import Dataset
    from torchvision import transforms

    pixels, labels = (part[:20_000] for part in data.cifar_pixels())

    class Pictures(Dataset):  # as torchvision.datasets.CIFAR10 does it
        transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
            ]
        )

        def __len__(self) -> int:
            return len(pixels)

        def __getitem__(self, index: int) -> Any:
            return self.transform(Image.fromarray(pixels[index])), int(labels[index])

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Sequential(
                nn.Conv2d(3, 6, 5),
                nn.ReLU(),
                nn.AvgPool2d(2),
                nn.Conv2d(6, 16, 5),
                nn.ReLU(),
                nn.AvgPool2d(2),
                nn.Flatten(),
                nn.Linear(400, 120),
                nn.ReLU(),
                nn.Linear(120, 84),
                nn.ReLU(),
                nn.Linear(84, 10),
            )

        def training_step(self, batch: Any, position: int) -> Any:
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    module, loader = Module(), _loader(Pictures(), 256, workers)

    def run() -> int:
        _lightning_trainer(precision).fit(module, loader)
        return len(pixels)

    return run


def image_folder() -> Run:
    """One pass over a folder of JPEG files by ImageFolder and a DataLoader with two workers."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import ToTensor

    def run() -> int:
        loader = DataLoader(
            ImageFolder(os.environ["BENCHMARK_FOLDER"], ToTensor()), batch_size=256, num_workers=2
        )
        return sum(len(images) for images, _ in loader)

    return run


def sklearn_prediction(dtype: str) -> Run:
    """MLPClassifier.predict_proba of the same layer sizes."""
    from sklearn.neural_network import MLPClassifier

    images, labels = data.mnist()
    flat = (images[:500].reshape(500, -1) / 255.0).astype(dtype)
    model = MLPClassifier((1000, 800, 800), max_iter=1).fit(flat, labels[:500])
    shown = (data.mnist("t10k")[0].reshape(-1, 784) / 255.0).astype(dtype)
    return lambda: len(model.predict_proba(shown))


def keras_prediction(network: str, batch_size: str, policy: str = "float32") -> Run:
    """model.predict of the same network."""
    keras = _keras(policy)
    layers = keras.layers
    images = data.mnist("t10k")[0].astype("float32") / 255
    if network == "mlp":
        images = images.reshape(-1, 784)
        hidden = [layers.Dense(width, activation="relu") for width in (1000, 800, 800)]
    else:
        images = images[..., None]
        hidden = [
            layers.ZeroPadding2D(2),
            layers.Conv2D(6, 5, activation="relu"),
            layers.AveragePooling2D(2),
            layers.Conv2D(16, 5, activation="relu"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
        ]
    model = keras.Sequential(
        [keras.Input(images.shape[1:]), *hidden, layers.Dense(10, activation="softmax")]
    )
    return lambda: len(model.predict(images, batch_size=int(batch_size), verbose=0))
