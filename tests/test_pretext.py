"""The autoencoder against hand calculation and PCA."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from fewlabels.contracts import Batch
from fewlabels.data.builtin import digits
from fewlabels.evaluation.pca import flat_pixels, pca_reference
from fewlabels.networks.mlp import MLPConfig
from fewlabels.pretext.autoencoder import Autoencoder, AutoencoderConfig
from fewlabels.pretext.contrastive import contrastive_loss
from fewlabels.workflows.phases import Context
from fewlabels.workflows.pretraining import pretrain
from fewlabels.workflows.settings import load_settings


def objective(**settings: object) -> Autoencoder:
    config = AutoencoderConfig(**settings)
    network = MLPConfig(widths=(6,), latent=3)
    generator = torch.Generator().manual_seed(0)
    encoder = network.build((1, 4, 4), generator)
    return config.build(encoder, network, generator)


def batch(count: int = 5) -> Batch:
    images = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    clean = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(3)
    return Batch(images=images, clean=clean, labels=None, generator=generator)


@pytest.mark.parametrize("loss", ["l1", "l2"])
@pytest.mark.parametrize("target", ["clean", "augmented"])
def test_loss_by_hand(loss: str, target: str) -> None:
    autoencoder = objective(loss=loss, target=target)
    given = batch()
    shown = autoencoder(given.images)
    difference = shown - (given.clean if target == "clean" else given.images)
    expected = difference.abs().mean() if loss == "l1" else (difference**2).mean()
    torch.testing.assert_close(autoencoder.loss(given, 0).loss, expected)


def test_sigmoid_output_stays_in_range() -> None:
    shown = objective(output="sigmoid")(torch.rand(9, 1, 4, 4) * 100)
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_linear_autoencoder_finds_the_principal_subspace() -> None:
    """Independent source: scikit-learn's PCA on the same images."""
    images = digits().images[:1000]
    settings = load_settings(
        "linear_autoencoder",
        assignments=[
            "network.latent=4",
            "run.precision=32",
            "pretraining.epochs=200",
            "pretraining.batch_size=250",
        ],
    )
    pretrained = pretrain(Context.of(settings), images)
    trained = np.setdiff1d(np.arange(len(images)), pretrained.held_out)
    pixels = flat_pixels(images[trained])
    pca = PCA(4).fit(pixels)
    weights = pretrained.objective.decoder.to_pixels.weight.detach().numpy()
    assert np.degrees(subspace_angles(weights, pca.components_.T).max()) < 5
    with torch.inference_mode():
        shown = pretrained.objective(torch.from_numpy(images[trained]).float() / 255)
    error = float(((shown.flatten(1).numpy() - pixels) ** 2).mean())
    best = float(((pca.inverse_transform(pca.transform(pixels)) - pixels) ** 2).mean())
    assert best <= error * 1.0001
    assert error < 1.01 * best


def test_pca_reference_equals_scikit_learn() -> None:
    images = digits().images
    reference = pca_reference(
        images[:800],
        images[800:1000],
        10,
        num_reconstructions=5,
        generator=np.random.default_rng(0),
    )
    fitted, evaluated = flat_pixels(images[:800]), flat_pixels(images[800:1000])
    pca = PCA(10, svd_solver="full").fit(fitted)
    shown = pca.inverse_transform(pca.transform(evaluated))
    assert reference.error == pytest.approx(float(((shown - evaluated) ** 2).mean()), rel=1e-3)
    mean = float(((fitted.mean(0) - evaluated) ** 2).mean())
    assert reference.mean_image_error == pytest.approx(mean, rel=1e-5)
    expected = shown[:5].clip(0, 1).reshape(5, 1, 8, 8)
    np.testing.assert_allclose(reference.reconstructions, expected, atol=1e-3)


def test_contrastive_loss_by_hand() -> None:
    projected = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)).double()
    rows = projected.numpy() / np.linalg.norm(projected.numpy(), axis=1, keepdims=True)
    similarities = np.exp(rows @ rows.T / 0.3)
    total = 0.0
    for i in range(8):
        partner = (i + 4) % 8
        others = sum(similarities[i, k] for k in range(8) if k != i)
        total -= np.log(similarities[i, partner] / others)
    assert float(contrastive_loss(projected, 0.3)) == pytest.approx(total / 8)


def test_contrastive_pretraining_sees_two_views_and_learns() -> None:
    settings = load_settings(
        "default",
        assignments=[
            "network.widths=[64, 32]",
            "pretext.name=contrastive",
            "pretraining.epochs=6",
            "pretraining.batch_size=128",
            "run.precision=32",
        ],
    )
    pretrained = pretrain(Context.of(settings), digits().images)
    losses = [float(row["val_loss"]) for row in pretrained.phase.history]
    assert losses[-1] < 0.9 * losses[0]
