"""Every pretext objective's formula against an independent calculation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence
from torch.nn import functional as F

from fewlabels.config import build
from fewlabels.contracts import Batch, Encoder
from fewlabels.errors import ConfigError
from fewlabels.networks.mlp import MLPConfig
from fewlabels.networks.unet import UNetConfig
from fewlabels.networks.vision_transformer import VisionTransformerConfig
from fewlabels.networks.wide_resnet import WideResNetConfig
from fewlabels.pretext import PRETEXTS
from fewlabels.pretext.contractive_autoencoder import squared_slope
from fewlabels.pretext.denoising_autoencoder import DenoisingAutoencoderConfig, corrupt
from fewlabels.pretext.diffusion import Diffusion, DiffusionConfig, image_shares
from fewlabels.pretext.generative_adversarial import (
    GenerativeAdversarialConfig,
    discriminator_loss,
    generator_loss,
    squared_gradient,
)
from fewlabels.pretext.masked_autoencoder import MaskedAutoencoderConfig, patch_size
from fewlabels.pretext.rotation_prediction import RotationPredictionConfig
from fewlabels.pretext.self_distillation import SelfDistillationConfig, distance
from fewlabels.pretext.unet_denoising import UNetDenoisingConfig
from fewlabels.pretext.variance_invariance import covariance_loss, variance_loss
from fewlabels.pretext.variational_autoencoder import (
    VariationalAutoencoder,
    VariationalAutoencoderConfig,
    divergence,
    reparameterised,
)

SMALL = MLPConfig(widths=(12, 6))


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 8, side: int = 8, channels: int = 1, views: int = 0) -> Batch:
    images = torch.rand(count, channels, side, side, generator=gen(1))
    further = tuple(
        torch.rand(count, channels, side, side, generator=gen(2 + n)) for n in range(views)
    )
    return Batch(images=images, clean=images, labels=None, generator=gen(9), further_views=further)


def built(config, network=SMALL, shape=(1, 8, 8)):
    return config.build(network.build(shape, gen()), network, gen())


# Damage


def test_masking_strikes_the_share_asked_for() -> None:
    struck = corrupt(torch.ones(100, 1, 20, 20), "masking", 0.75, gen())
    assert (struck == 0).float().mean().item() == pytest.approx(0.75, abs=0.01)
    assert set(struck.unique().tolist()) == {0.0, 1.0}


def test_salt_and_pepper_are_equally_common() -> None:
    struck = corrupt(torch.full((100, 1, 20, 20), 0.5), "salt_and_pepper", 0.4, gen())
    for value, share in ((0.0, 0.2), (1.0, 0.2), (0.5, 0.6)):
        assert (struck == value).float().mean().item() == pytest.approx(share, abs=0.01)


def test_noise_has_the_deviation_asked_for() -> None:
    noise = corrupt(torch.full((100, 1, 20, 20), 0.5), "gaussian", 0.2, gen()) - 0.5
    assert noise.std().item() == pytest.approx(0.2, rel=0.02)


def test_denoising_compares_with_the_undamaged_image() -> None:
    objective = built(DenoisingAutoencoderConfig(amount=0.5))
    given = batch()
    found = objective.loss(given, 0).loss
    drawn = objective(corrupt(given.images, "masking", 0.5, gen(9)))
    torch.testing.assert_close(found, ((drawn - given.clean) ** 2).mean())


def test_stacked_denoising_trains_one_stage_after_the_other() -> None:
    objective = built(DenoisingAutoencoderConfig(stacked=True, amount=0.3))
    changed = []
    for epoch in range(3):
        objective.before_epoch(epoch, 3)
        objective.zero_grad()
        objective.loss(batch(), 0).loss.backward()
        layers = [layer[0].weight.grad for layer in objective.encoder.layers]
        changed.append([grad is not None and bool((grad != 0).any()) for grad in layers])
    assert changed == [[True, False], [False, True], [True, True]]
    # The second stage by hand: the first one's output, struck, encoded and drawn back.
    objective.before_epoch(1, 3)
    given = batch()
    first, second = objective.encoder.layers
    hidden = first(objective.encoder.standardise(given.images).flatten(1)).detach()
    struck = corrupt(hidden, "masking", 0.3, gen(9))
    expected = F.mse_loss(objective.back[1](second(struck)), hidden)
    torch.testing.assert_close(objective.loss(batch(), 0).loss, expected)
    with pytest.raises(ConfigError, match="stacked"):
        built(DenoisingAutoencoderConfig(stacked=True), WideResNetConfig(widths=(4, 8)))


def test_nothing_left_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves nothing"):
        built(DenoisingAutoencoderConfig(amount=1.0))


def test_slope_is_the_jacobians_length() -> None:
    """torch.func's exact Jacobian; the estimate by random directions has no bias."""
    encoder = SMALL.build((1, 3, 3), gen()).double()
    images = torch.rand(4, 1, 3, 3, generator=gen(1), dtype=torch.float64)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: encoder(one.unsqueeze(0))[0]))(images)
    expected = jacobian.square().mean().detach()
    images.requires_grad_()
    random = gen(5)
    found = [float(squared_slope(encoder(images), images, random).detach()) for _ in range(3000)]
    assert np.mean(found) == pytest.approx(float(expected), rel=0.05)


# Variational


def test_divergence_is_torchs_and_that_of_samples() -> None:
    mean = torch.randn(5, 3, generator=gen())
    log_variance = torch.randn(5, 3, generator=gen(1))
    posterior = Normal(mean, (0.5 * log_variance).exp())
    prior = Normal(torch.zeros(5, 3), torch.ones(5, 3))
    torch.testing.assert_close(divergence(mean, log_variance), kl_divergence(posterior, prior))
    draws = torch.stack([reparameterised(mean, log_variance, gen(n)) for n in range(4000)])
    sampled = (posterior.log_prob(draws) - prior.log_prob(draws)).mean(dim=0)
    torch.testing.assert_close(sampled, divergence(mean, log_variance), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_surprise_is_torchs(likelihood: str) -> None:
    objective = built(VariationalAutoencoderConfig(latent=3, likelihood=likelihood, deviation=0.3))
    images = torch.bernoulli(batch().images, generator=gen())
    latents = torch.randn(8, 3, generator=gen())
    drawn = objective.decoder(latents)
    if likelihood == "bernoulli":
        expected = Independent(Bernoulli(logits=drawn), 3).log_prob(images)
    else:
        expected = Independent(Normal(drawn, torch.full_like(drawn, 0.3)), 3).log_prob(images)
    torch.testing.assert_close(objective.surprise(latents, images), -expected)


def test_the_bound_is_tight_where_the_posterior_is_known() -> None:
    """One latent, x = w z + noise: p(x) and p(z|x) are normal and known (Bishop, 2006, 2.3)."""
    deviation = 0.5
    weight = torch.tensor([0.7, -0.4])
    config = VariationalAutoencoderConfig(latent=1, likelihood="gaussian", deviation=deviation)

    class Known(Encoder):
        image_shape = (1, 1, 2)
        num_features = 2

        def forward_features(self, images: Tensor) -> Tensor:
            return self(images)

        def forward(self, images: Tensor) -> Tensor:
            precision = 1 + float(weight @ weight) / deviation**2
            mean = images.flatten(1) @ weight / deviation**2 / precision
            return torch.stack([mean, torch.full_like(mean, -math.log(precision))], dim=1)

        def stages(self) -> list[list[nn.Module]]:
            return []

    class Draw(nn.Module):
        def forward(self, latents: Tensor) -> Tensor:
            return (latents * weight).view(-1, 1, 1, 2)

    objective = VariationalAutoencoder(config, Known(), Draw(), gen())
    with torch.no_grad():
        objective.to_posterior.weight.copy_(torch.eye(2))
    images = torch.randn(6, 1, 1, 2, generator=gen())
    covariance = weight.outer(weight) + deviation**2 * torch.eye(2)
    expected = torch.distributions.MultivariateNormal(torch.zeros(2), covariance).log_prob(
        images.flatten(1)
    )
    with torch.no_grad():
        for count in (1, 5):
            bound = objective.importance_weighted_bound(images, gen(), count)
            torch.testing.assert_close(bound, expected, atol=1e-4, rtol=1e-4)
        draws = torch.stack([objective.negative_bound(images, gen(n)) for n in range(3000)])
    torch.testing.assert_close(-draws.mean(dim=0), expected, atol=0.05, rtol=0.05)


def test_more_draws_tighten_the_bound() -> None:
    objective = built(VariationalAutoencoderConfig(latent=3))
    images = batch().images
    with torch.no_grad():
        one, many = (
            np.mean(
                [
                    float(objective.importance_weighted_bound(images, gen(n), k).mean())
                    for n in range(40)
                ]
            )
            for k in (1, 50)
        )
        plain = np.mean(
            [-float(objective.negative_bound(images, gen(n)).mean()) for n in range(40)]
        )
    assert many > one + 0.01
    assert one == pytest.approx(plain, abs=0.5)


def test_divergence_is_weighed_in_by_and_by() -> None:
    objective = built(VariationalAutoencoderConfig(latent=3, beta=2.0, warmup=0.5))
    weights = []
    for epoch in range(8):
        objective.before_epoch(epoch, 8)
        weights.append(objective.weight)
    assert weights == sorted(weights)
    assert 0 < weights[0] < 0.5
    assert weights[4:] == [2.0] * 4
    logs = objective.loss(batch(), 0)
    expected = logs.logs["surprise"] + 2 * logs.logs["divergence"]
    torch.testing.assert_close(logs.loss.detach(), expected)


# Masked


@pytest.mark.parametrize("network", [SMALL, VisionTransformerConfig(depth=1, patch=2)])
def test_what_is_hidden_is_not_seen(network) -> None:
    objective = built(MaskedAutoencoderConfig(mask=0.75, patch=2), network).eval()
    images = batch().images
    order = objective.order(8, gen(), images.device)
    hidden = objective.hidden(order)
    assert hidden.float().mean().item() == 0.75
    assert hidden.shape == (8, 1, 8, 8)
    # Patches are hidden as a whole.
    whole = hidden.view(8, 4, 2, 4, 2).float().mean(dim=(2, 4))
    assert set(whole.unique().tolist()) == {0.0, 1.0}
    other = torch.where(hidden, torch.rand(images.shape, generator=gen(7)), images)
    torch.testing.assert_close(objective.draw(images, order), objective.draw(other, order))
    seen = torch.where(hidden, images, torch.rand(images.shape, generator=gen(7)))
    assert not torch.allclose(objective.draw(images, order), objective.draw(seen, order))
    # The loss looks at hidden pixels alone.
    drawn = objective.draw(images, objective.order(8, gen(9), images.device))
    mask = objective.hidden(objective.order(8, gen(9), images.device))
    expected = ((drawn - images) ** 2 * mask).sum() / mask.sum()
    torch.testing.assert_close(objective.loss(batch(), 0).loss, expected)
    kept = objective.reconstruct(images, gen())
    shown = ~objective.hidden(objective.order(8, gen(), images.device))
    assert torch.equal(kept[shown], images[shown])


def test_hidden_patches_land_where_they_belong() -> None:
    """A transformer whose blocks do nothing draws each patch from its own place."""
    network = VisionTransformerConfig(depth=1, patch=2, width=16)
    objective = built(MaskedAutoencoderConfig(mask=0.5, decoder_width=16), network)
    order = torch.tensor([[5, 0, 15, 3, *[n for n in range(16) if n not in (5, 0, 15, 3)]]])
    hidden = objective.hidden(order)[0, 0]
    for patch in range(16):
        row, column = divmod(patch, 4)
        block = hidden[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert block.all() == (patch not in order[0, :8].tolist())
        assert block.all() == block.any()


def test_patch_sizes() -> None:
    assert patch_size("auto", (1, 28, 28)) == 4
    assert patch_size("auto", (1, 8, 8)) == 4
    assert patch_size(7, (1, 28, 28)) == 7
    with pytest.raises(ConfigError, match="1, 2, 4, 7, 14 or auto"):
        patch_size(5, (1, 28, 28))
    with pytest.raises(ConfigError, match="mask"):
        build(MaskedAutoencoderConfig, {"mask": 1.0}, "pretext")


# Adversarial


def test_adversarial_losses_are_cross_entropies() -> None:
    real, fake = torch.randn(9, generator=gen()), torch.randn(9, generator=gen(1))
    ones, zeros = torch.ones(9), torch.zeros(9)
    expected = F.binary_cross_entropy_with_logits(real, ones)
    expected = expected + F.binary_cross_entropy_with_logits(fake, zeros)
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    torch.testing.assert_close(
        generator_loss(fake, "non_saturating"), F.binary_cross_entropy_with_logits(fake, ones)
    )
    torch.testing.assert_close(generator_loss(fake, "minimax"), (1 - fake.sigmoid()).log().mean())


def test_each_side_gets_its_own_gradient() -> None:
    objective = built(GenerativeAdversarialConfig(latent=5, r1=0.0))
    given = batch()
    objective.loss(given, 0).loss.backward()
    groups = objective.parameter_groups()
    judging = groups["discriminator"][0].parameters
    drawing = groups["generator"][0].parameters
    both = {id(p) for p in judging} | {id(p) for p in drawing}
    learnt = {id(p) for p in objective.parameters() if p.requires_grad}
    assert both == learnt
    assert not {id(p) for p in judging} & {id(p) for p in drawing}
    drawn = objective.drawer(objective.latents(8, gen(9)))
    alone = discriminator_loss(objective.judge(given.images), objective.judge(drawn.detach()))
    for parameter, expected in zip(judging, torch.autograd.grad(alone, judging), strict=True):
        torch.testing.assert_close(parameter.grad, expected)
    alone = generator_loss(objective.judge(drawn), "non_saturating")
    for parameter, expected in zip(drawing, torch.autograd.grad(alone, drawing), strict=True):
        torch.testing.assert_close(parameter.grad, expected)


def test_penalty_is_the_squared_gradient() -> None:
    """Of f(x) = a · x² / 2 it is |a x|²."""
    images = torch.rand(4, 1, 3, 3, generator=gen()).requires_grad_()
    logits = 0.5 * 3 * images.square().flatten(1).sum(dim=1)
    expected = (3 * images).square().flatten(1).sum(dim=1).mean()
    penalty = squared_gradient(logits, images)
    torch.testing.assert_close(penalty, expected)
    penalty.backward()
    torch.testing.assert_close(images.grad, 2 * 9 * images.detach() / 4)


def test_spectral_norm_bounds_every_layer_and_leaves_an_ordinary_encoder() -> None:
    objective = built(GenerativeAdversarialConfig(spectral_norm=True, latent=5))
    objective.train()
    for step in range(60):  # one power iteration a step
        objective.loss(batch(), step)
    for layer in objective.encoder.layers:
        largest = torch.linalg.svdvals(layer[0].weight)[0].item()
        assert largest == pytest.approx(1, abs=0.02)
    finished = objective.eval().finished_encoder()
    fresh = SMALL.build((1, 8, 8), gen(3))
    fresh.load_state_dict(finished.state_dict())
    images = batch().images
    torch.testing.assert_close(fresh.eval()(images), objective.encoder(images))


def test_the_average_draws() -> None:
    objective = built(GenerativeAdversarialConfig(latent=5, decay=0.5))
    before = objective.generate(3, gen())
    with torch.no_grad():
        for parameter in objective.drawer.parameters():
            parameter.add_(1.0)
    assert torch.equal(before, objective.generate(3, gen()))
    objective.after_step(100)
    assert not torch.equal(before, objective.generate(3, gen()))


# Diffusion

UNET = UNetConfig(width=4, depth=1, norm="group")


def test_image_shares_are_the_papers() -> None:
    """Ho et al. (2020): 1 - ā_T of the linear schedule is 1 but for 4e-5; step by step."""
    kept = image_shares("linear", 1000)
    product = 1.0
    for step in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * step / 999)
        assert kept[step + 1].item() == pytest.approx(product, rel=1e-3)
    assert kept[-1].item() == pytest.approx(4.0e-5, rel=0.05)
    cosine = image_shares("cosine", 1000)
    middle = math.cos((0.5 + 0.008) / 1.008 * math.pi / 2) ** 2
    start = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert cosine[500].item() == pytest.approx(middle / start, rel=1e-4)
    for shares in (kept, cosine):
        assert shares[0] == 1
        assert (shares[1:] < shares[:-1]).all()


def test_all_steps_at_once_are_the_steps_one_by_one() -> None:
    """x_t = √(1 - b) x_{t-1} + √b noise: mean and variance after 30 steps."""
    objective = built(DiffusionConfig(steps=50), UNET)
    kept = objective.kept.double()
    mean, variance = 1.0, 0.0
    for step in range(1, 31):
        share = float(kept[step] / kept[step - 1])
        mean, variance = math.sqrt(share) * mean, share * variance + 1 - share
    images = torch.full((20_000, 1, 1, 1), 0.8)
    noise = torch.randn(images.shape, generator=gen())
    noisy = objective.noisy(images, noise, torch.full((20_000,), 30))
    assert noisy.mean().item() == pytest.approx(0.8 * mean, abs=0.02)
    assert noisy.var().item() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_a_perfect_predictor_leads_back_to_the_image(noise: float) -> None:
    """Where there is one image alone, its noise is known: (x_t - √ā x) / √(1 - ā)."""
    settings = DiffusionConfig(steps=100, sampling_steps=25, noise=noise)
    objective: Diffusion = built(settings, UNET)
    image = torch.rand(1, 1, 8, 8, generator=gen())

    class Perfect(nn.Module):
        def forward(self, images: Tensor, times: Tensor) -> Tensor:
            kept = objective.kept[times].view(-1, 1, 1, 1)
            return (2 * images - 1 - kept.sqrt() * (2 * image - 1)) / (1 - kept).sqrt()

    objective.average.network = Perfect()
    made = objective.generate(3, gen())
    torch.testing.assert_close(made, image.expand(3, -1, -1, -1), atol=2e-3, rtol=0)
    assert len(list(objective.denoised(2, gen()))) == 26


def test_without_noise_the_predictor_is_the_encoder() -> None:
    objective = built(DiffusionConfig(), UNET).eval()
    images = batch().images
    shifts = []
    levels = objective.encoder.levels

    def seen(images: Tensor, given: list[Tensor] | None = None) -> list[Tensor]:
        shifts.extend(given or [])
        return levels(images, given)

    objective.encoder.levels = seen
    objective.predictor(images, torch.zeros(8, dtype=torch.long))
    assert shifts
    assert all(shift.abs().max() < 1e-5 for shift in shifts)  # but for rounding
    shifts.clear()
    objective.predictor(images, torch.full((8,), 500))
    assert all(shift.abs().max() > 1e-2 for shift in shifts)


def test_diffusion_needs_a_unet() -> None:
    with pytest.raises(ConfigError, match=r"network\.name=unet"):
        built(DiffusionConfig())
    with pytest.raises(ConfigError, match="at most"):
        built(DiffusionConfig(steps=10, sampling_steps=20), UNET)
    with pytest.raises(ConfigError, match="no way up"):
        built(UNetDenoisingConfig())


# Views of one image


def test_distance_by_hand() -> None:
    one, other = torch.randn(7, 5, generator=gen()), torch.randn(7, 5, generator=gen(1))
    expected = (F.normalize(one, dim=1) - F.normalize(other, dim=1)).square().sum(dim=1).mean()
    torch.testing.assert_close(distance(one, other), expected)


def test_the_teacher_is_not_learnt_but_averaged() -> None:
    objective = built(SelfDistillationConfig(hidden=8, projection=4, decay=0.9))
    objective.loss(batch(views=1), 0).loss.backward()
    assert all(p.grad is None for p in objective.teacher.parameters())
    (group,) = objective.parameter_groups()["main"]
    assert not {id(p) for p in objective.teacher.parameters()} & {id(p) for p in group.parameters}
    before = [p.clone() for p in objective.teacher.parameters()]
    student = nn.Sequential(objective.encoder, objective.project)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    objective.after_step(0)
    for old, new, learnt in zip(
        before, objective.teacher.parameters(), student.parameters(), strict=True
    ):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * learnt)


def test_variance_and_covariance_by_numpy() -> None:
    features = torch.randn(50, 6, generator=gen()) * torch.tensor([0.1, 0.5, 1.0, 2.0, 0.9, 0.3])
    array = features.numpy()
    deviation = np.sqrt(array.var(axis=0, ddof=1) + 1e-4)
    assert variance_loss(features).item() == pytest.approx(np.maximum(0, 1 - deviation).mean())
    covariance = np.cov(array.T)
    off = (covariance**2).sum() - (np.diag(covariance) ** 2).sum()
    assert covariance_loss(features).item() == pytest.approx(off / 6, rel=1e-4)


def test_turns_are_quarter_turns() -> None:
    objective = built(RotationPredictionConfig())
    seen: list[Tensor] = []
    objective.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    given = batch(2)
    found = objective.loss(given, 0)
    images = given.images.numpy()
    expected = np.concatenate([np.rot90(images, turns, axes=(2, 3)) for turns in range(4)])
    np.testing.assert_array_equal(seen[0].numpy(), expected)
    logits = objective.head(objective.encoder(torch.from_numpy(expected.copy())))
    turns = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    torch.testing.assert_close(found.loss, F.cross_entropy(logits, turns))
    with pytest.raises(ConfigError, match="8 × 10"):
        built(RotationPredictionConfig(), SMALL, (1, 8, 10))


@pytest.mark.parametrize("name", PRETEXTS)
def test_objectives_say_what_they_look_at(name: str) -> None:
    settings = PRETEXTS[name]()
    assert settings.num_views in (1, 2)
    assert settings.num_views == 2 or isinstance(settings.augmented, bool)
