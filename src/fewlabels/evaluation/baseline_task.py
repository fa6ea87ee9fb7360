"""What baselines are fitted on: few enough labels and pixels to cost seconds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from torch.nn.functional import adaptive_avg_pool2d

from fewlabels.data.apportion import apportion
from fewlabels.data.batches import as_tensor, to_float
from fewlabels.data.selection import Selection
from fewlabels.errors import DataError
from fewlabels.randomness import derive_seed, numpy_generator

Images = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.float32]

# Together these keep the whole table within seconds on two cores, whatever the data.
MAX_LABELS = 5_000
MAX_SIDE = 32
MAX_POOL_IMAGES = 10_000
NUM_COMPONENTS = 50
CHUNK = 2_000


class BaselineTask:
    """What baselines are fitted on.

    Args:
        images: uint8 or float32 (N, C, H, W), with labels.
        labels: int64 (N,), at least 0.
        pool_images: any number of images of the same shape, for PCA; none of the test set.
        seed: of every draw.

    Attributes:
        pixels: float32 (M, D), M at most 5,000, drawn so that classes keep their proportions;
            images larger than 32 pixels a side are shrunk to that.
        labels: int64 (M,).
        num_given: N.
        seed: as given.
    """

    def __init__(
        self, images: Images, labels: Labels, pool_images: Images | Selection, seed: int
    ) -> None:
        if not len(labels):
            raise DataError("Baselines need labelled images, and there are none. Label some.")
        kept = _stratified(labels, MAX_LABELS, numpy_generator(seed, "baselines", "labels"))
        self.pixels = flatten(images[kept])
        self.labels = labels[kept]
        self.num_given = len(labels)
        self.seed = seed
        self._pool_images = pool_images

    @cached_property
    def scale(self) -> tuple[Pixels, float]:
        """Mean image, float32 (D,), and the root mean square distance of the images from it."""
        mean = self.pixels.mean(axis=0)
        squares = ((self.pixels - mean) ** 2).sum(axis=1)
        return mean, float(np.sqrt(squares.mean())) or 1.0

    @cached_property
    def principal_axes(self) -> tuple[Pixels, Pixels]:
        """Mean (D,) and axes (P, D) of up to 10,000 images of the pool, float32, P up to 50."""
        rng = numpy_generator(self.seed, "baselines", "pool")
        count = len(self._pool_images)
        chosen = np.sort(rng.permutation(count)[:MAX_POOL_IMAGES])
        pool = flatten(self._pool_images[chosen]) if count else self.pixels
        pca = PCA(
            n_components=min(NUM_COMPONENTS, *pool.shape),
            svd_solver="randomized",
            random_state=derive_seed(self.seed, "baselines", "pca") % 2**32,
        ).fit(pool)
        return pca.mean_.astype(np.float32), pca.components_.astype(np.float32)

    def components(self, pixels: Pixels) -> Pixels:
        """Pixels (N, D) to their principal components, float32 (N, P)."""
        mean, axes = self.principal_axes
        return np.asarray((pixels - mean) @ axes.T, dtype=np.float32)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that a baseline needs to be fitted again; from `restored`, the same task."""
        found: dict[str, npt.NDArray[Any]] = {"pixels": self.pixels, "labels": self.labels}
        if "principal_axes" in vars(self):
            found["mean"], found["axes"] = self.principal_axes
        return found

    @classmethod
    def restored(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> BaselineTask:
        """A task from what `arrays` gave."""
        task = cls.__new__(cls)
        task.pixels, task.labels = arrays["pixels"], arrays["labels"]
        task.num_given, task.seed, task._pool_images = len(task.labels), 0, task.pixels[:0]
        if "axes" in arrays:
            task.principal_axes = arrays["mean"], arrays["axes"]
        return task


def flatten(images: Images) -> Pixels:
    """Images to float32 (N, D) in [0, 1], sides over 32 pixels averaged down to 32."""
    count, channels, height, width = images.shape
    sides = min(height, MAX_SIDE), min(width, MAX_SIDE)
    flat = np.empty((count, channels * sides[0] * sides[1]), dtype=np.float32)
    for start in range(0, count, CHUNK):
        batch = to_float(as_tensor(images[start : start + CHUNK]))
        if sides != (height, width):
            batch = adaptive_avg_pool2d(batch, sides)
        flat[start : start + CHUNK] = batch.flatten(1).numpy()
    return flat


def _stratified(labels: Labels, limit: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    if len(labels) <= limit:
        return np.arange(len(labels))
    sizes = np.bincount(labels)
    one_each = np.count_nonzero(sizes) <= limit
    counts = apportion(limit, sizes, np.minimum(sizes, int(one_each)), sizes)
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in enumerate(counts.tolist())
    ]
    return np.sort(np.concatenate(chosen))
