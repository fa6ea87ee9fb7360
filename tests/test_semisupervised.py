"""Semi-supervised objectives: each formula against an independent calculation."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import Tensor, nn

from fewlabels.blocks.averaged import Averaged
from fewlabels.blocks.losses import ClassificationConfig
from fewlabels.contracts import Batch, Mixing, Unlabelled
from fewlabels.data.batches import as_tensor, to_float
from fewlabels.data.builtin import digits
from fewlabels.errors import ConfigError
from fewlabels.networks.classifier import Classifier
from fewlabels.networks.lenet import LeNetConfig
from fewlabels.networks.mlp import MLPConfig
from fewlabels.semisupervised.entropy_minimisation import EntropyMinimisationConfig
from fewlabels.semisupervised.fixmatch import FixMatchConfig
from fewlabels.semisupervised.graph import (
    affinity,
    balanced,
    neighbours,
    principal_components,
    propagate,
)
from fewlabels.semisupervised.label_propagation import LabelPropagationConfig
from fewlabels.semisupervised.ladder import LadderConfig, normalised
from fewlabels.semisupervised.mean_teacher import MeanTeacherConfig
from fewlabels.semisupervised.message_passing import GraphNetwork, MessagePassingConfig
from fewlabels.semisupervised.mixmatch import MixMatchConfig, beta, sharpen
from fewlabels.semisupervised.objective import Task, entropy, ramp_up, untracked
from fewlabels.semisupervised.pi_model import PiModelConfig
from fewlabels.semisupervised.pseudo_label import PseudoLabelConfig, surest
from fewlabels.semisupervised.transductive import sureness
from fewlabels.semisupervised.virtual_adversarial import (
    VirtualAdversarialConfig,
    kullback_leibler,
    unit_length,
)
from fewlabels.workflows.phases import LabelledImages, pseudo_label_table

NUM_LABELLED, NUM_UNLABELLED = 40, 200


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def task(norm: str = "none", network: Any = None, logit_norm: str = "none") -> Task:
    config = network or MLPConfig(widths=(32, 16), norm=norm)
    data = digits()
    return Task(
        classifier=Classifier(config.build((1, 8, 8), gen()), 10, gen(), logit_norm),
        classification=ClassificationConfig(),
        class_weights=None,
        images=data.images[:NUM_LABELLED],
        labels=data.labels[:NUM_LABELLED],
        unlabelled=data.images[NUM_LABELLED : NUM_LABELLED + NUM_UNLABELLED],
        seed=0,
    )


def batch(num_views: int, count: int = 30) -> Batch:
    data = digits()
    images = torch.from_numpy(data.images[:16]).float() / 255
    positions = torch.arange(count)
    clean = torch.from_numpy(data.images[NUM_LABELLED : NUM_LABELLED + count]).float() / 255
    views = tuple(
        clean + 0.1 * torch.randn(clean.shape, generator=gen(9 + number))
        for number in range(num_views)
    )
    return Batch(
        images=images,
        clean=images,
        labels=torch.from_numpy(data.labels[:16]),
        generator=gen(5),
        unlabelled=Unlabelled(clean=clean, views=views, positions=positions),
    )


def softmax(classifier: nn.Module, images: Tensor) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        logits = classifier(images).double().numpy()
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def labelled_loss(classifier: nn.Module, given: Batch) -> float:
    assert given.labels is not None
    chances = softmax(classifier, given.images)
    return float(-np.log(chances[np.arange(16), given.labels.numpy()]).mean())


def parts(given: Batch) -> Unlabelled:
    assert given.unlabelled is not None
    return given.unlabelled


def test_pseudo_label_is_the_cross_entropy_with_the_best_guess_times_a_ramp() -> None:
    objective = PseudoLabelConfig(weight=2.0, start=0.1, end=0.5).build(task())
    given = batch(1)
    chances = softmax(objective.classifier, parts(given).views[0])
    expected = float(-np.log(chances.max(axis=1)).mean())
    for epoch, factor in ((0, 0.0), (3, 2 * 0.5), (5, 2.0), (9, 2.0)):
        objective.before_epoch(epoch, 10)
        total = float(objective.loss(given, 0).loss.detach())
        assert total == pytest.approx(
            labelled_loss(objective.classifier, given) + factor * expected, rel=1e-5
        )


def test_pseudo_label_rounds_take_the_surest_share_first() -> None:
    objective = PseudoLabelConfig(rounds=2).build(task())
    shares = []
    for epoch in range(6):  # a part without guesses, then one round of two epochs after the other
        objective.before_epoch(epoch, 6)
        shares.append(float((objective.targets >= 0).float().mean()))
    assert shares[:2] == [0, 0]
    assert shares[2] == shares[3] == pytest.approx(0.5, abs=0.03)
    assert shares[4] == shares[5] == 1


def test_surest_keeps_the_most_confident_of_each_class() -> None:
    chances = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.45, 0.55]])
    assert surest(chances, 0.4).tolist() == [0, -1, -1, 1, -1]
    assert surest(chances, 1.0).tolist() == [0, 0, 0, 1, 1]


def test_entropy_is_scipys() -> None:
    logits = torch.randn(20, 7, generator=gen())
    chances = logits.double().softmax(1).numpy()
    assert float(entropy(logits)) == pytest.approx(scipy.stats.entropy(chances, axis=1).mean())


def test_entropy_minimisation_adds_the_weighted_entropy() -> None:
    objective = EntropyMinimisationConfig(weight=0.7, ramp=0.0).build(task())
    given = batch(1)
    chances = softmax(objective.classifier, parts(given).views[0])
    expected = scipy.stats.entropy(chances, axis=1).mean()
    total = float(objective.loss(given, 0).loss.detach())
    assert total == pytest.approx(
        labelled_loss(objective.classifier, given) + 0.7 * expected, rel=1e-5
    )


def test_ramp_up_is_the_papers() -> None:
    assert ramp_up(0.0, 0.4) == pytest.approx(math.exp(-5))
    assert ramp_up(0.2, 0.4) == pytest.approx(math.exp(-5 / 4))
    assert ramp_up(0.4, 0.4) == ramp_up(0.9, 0.4) == ramp_up(0.0, 0.0) == 1


def test_pi_model_compares_the_two_views() -> None:
    objective = PiModelConfig(weight=3.0, ramp=0.0).build(task())
    given = batch(2)
    first, second = (softmax(objective.classifier, view) for view in parts(given).views)
    expected = labelled_loss(objective.classifier, given) + 3 * ((first - second) ** 2).mean()
    assert float(objective.loss(given, 0).loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_mean_teacher_compares_with_the_average_which_gets_no_gradient() -> None:
    objective = MeanTeacherConfig(weight=3.0, ramp=0.0).build(task())
    with torch.no_grad():
        objective.teacher.network.head.weight.mul_(1.5)
    given = batch(2)
    first = softmax(objective.classifier, parts(given).views[0])
    second = softmax(objective.teacher, parts(given).views[1])
    expected = labelled_loss(objective.classifier, given) + 3 * ((first - second) ** 2).mean()
    result = objective.loss(given, 0)
    assert float(result.loss.detach()) == pytest.approx(expected, rel=1e-5)
    result.loss.backward()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())


def test_average_follows_weights_and_batch_norm_statistics() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = Averaged(network, decay=0.9)
    expected = {k: v.clone().double() for k, v in network.state_dict().items()}
    for step in range(100, 105):
        network.train()
        network(torch.randn(8, 3, generator=gen(step)))
        with torch.no_grad():
            network[0].weight.add_(0.1)
        average.train()
        average.update(network, step)
        for name, value in network.state_dict().items():
            counts = name.endswith("num_batches_tracked")
            expected[name] = value if counts else 0.9 * expected[name] + 0.1 * value.double()
    for name, value in average.network.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-5, atol=1e-6)
    assert not average.network.training
    assert not torch.equal(average.network[1].running_mean, torch.zeros(4))


def test_average_forgets_its_start_soon() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = Averaged(network, decay=0.999)
    with torch.no_grad():
        network.weight.fill_(5.0)
    for step in range(50):
        average.update(network, step)
    assert float(average.network.weight) == pytest.approx(5.0, abs=0.01)


def test_adversarial_change_is_the_direction_that_hurts_most() -> None:
    """For a small change, the divergence is r' H r / 2: r must be H's first eigenvector."""
    objective = VirtualAdversarialConfig(epsilon=0.5, xi=1e-2, iterations=30).build(task())
    images = parts(batch(1)).views[0][:4].double()
    objective.double()
    logits = objective.classifier(images).detach()
    change = objective._adversarial_change(images, logits, gen())
    assert torch.allclose(change.flatten(1).norm(dim=1), torch.tensor(0.5).double())
    for number in range(4):

        def divergence(moved: Tensor, number: int = number) -> Tensor:
            image = (images[number].flatten() + moved).view(1, 1, 8, 8)
            return kullback_leibler(logits[number : number + 1], objective.classifier(image))

        hessian = torch.autograd.functional.hessian(divergence, torch.zeros(64).double())
        assert isinstance(hessian, Tensor)
        values, vectors = torch.linalg.eigh(hessian)
        direction = change[number].flatten() / 0.5
        assert float(direction @ hessian @ direction) > 0.95 * float(values[-1])
        if values[-1] > 2 * values[-2]:
            assert abs(float(direction @ vectors[:, -1])) > 0.95


def test_divergence_is_scipys() -> None:
    first, second = torch.randn(2, 9, 5, generator=gen())
    p, q = first.double().softmax(1).numpy(), second.double().softmax(1).numpy()
    expected = scipy.stats.entropy(p, q, axis=1).mean()
    assert float(kullback_leibler(first, second)) == pytest.approx(expected, rel=1e-5)


def test_unit_length_survives_tiny_gradients() -> None:
    tiny = 1e-30 * torch.randn(3, 1, 8, 8, generator=gen())
    assert torch.allclose(unit_length(tiny).flatten(1).norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("alignment", ["none", "uniform", (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)])
def test_virtual_adversarial_adds_divergence_entropy_and_balance(alignment: Any) -> None:
    config = VirtualAdversarialConfig(
        weight=2.0, entropy=0.5, balance=3.0, alignment=alignment, epsilon=1.0
    )
    objective = config.build(task())
    given = batch(1)
    result = objective.loss(given, 0)
    view = parts(given).views[0]
    logits = objective.classifier(view).detach()
    change = objective._adversarial_change(view, logits, gen(5))  # as in the batch
    chances, changed = (softmax(objective.classifier, x) for x in (view, view + change))
    expected = scipy.stats.entropy(chances, changed, axis=1).mean()
    expected += 0.5 * scipy.stats.entropy(chances, axis=1).mean()
    if alignment != "none":
        shares = np.ones(10) if alignment == "uniform" else np.array(alignment)
        expected += 3.0 * scipy.stats.entropy(chances.mean(axis=0), shares)
    total = labelled_loss(objective.classifier, given) + 2 * expected
    assert float(result.loss.detach()) == pytest.approx(total, rel=1e-4)


def test_extra_passes_leave_batch_norm_statistics_alone() -> None:
    classifier = task("batch").classifier.train()
    before = copy.deepcopy(classifier.state_dict())
    with untracked(classifier):
        classifier(parts(batch(1)).views[0])
    for name, value in classifier.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, before[name])
    classifier(parts(batch(1)).views[0])
    assert not torch.equal(
        classifier.state_dict()["encoder.layers.0.1.running_mean"],
        before["encoder.layers.0.1.running_mean"],
    )


def test_sharpen_is_the_papers() -> None:
    chances = torch.tensor([[0.5, 0.3, 0.2]])
    powers = np.array([0.5, 0.3, 0.2]) ** 2
    np.testing.assert_allclose(sharpen(chances, 0.5)[0], powers / powers.sum(), rtol=1e-5)


def test_beta_draws_have_the_distribution() -> None:
    draws = beta(0.75, 20_000, gen(), torch.device("cpu")).numpy()
    assert scipy.stats.kstest(draws, scipy.stats.beta(0.75, 0.75).cdf).pvalue > 0.01


def test_mixmatch_with_shares_of_one_is_the_plain_sum() -> None:
    config = MixMatchConfig(weight=4.0, ramp=0.0, alpha=1e-3)  # shares of 0 or 1: nothing is mixed
    objective = config.build(task())
    given = batch(2)
    chances = [softmax(objective.classifier, view) for view in parts(given).views]
    mean = (chances[0] + chances[1]) / 2
    guess = mean**2 / (mean**2).sum(axis=1, keepdims=True)
    differences = np.concatenate([(one - guess) ** 2 for one in chances])
    expected = labelled_loss(objective.classifier, given) + 4 * differences.mean()
    assert float(objective.loss(given, 0).loss.detach()) == pytest.approx(expected, rel=1e-3)


def test_mixmatch_heeds_labels_that_are_mixed_already() -> None:
    config = MixMatchConfig(weight=0.0, alpha=1e-3)
    given = batch(2)
    partners = torch.arange(16).roll(1)
    mixing = Mixing(partners=partners, share=torch.full((16,), 0.3))
    chances = softmax(config.build(task()).classifier, given.images)
    assert given.labels is not None
    own = np.eye(10)[given.labels.numpy()]
    targets = 0.3 * own + 0.7 * own[partners.numpy()]
    expected = float(-(targets * np.log(chances)).sum(axis=1).mean())
    result = config.build(task()).loss(dataclasses.replace(given, mixing=mixing), 0)
    assert float(result.loss.detach()) == pytest.approx(expected, rel=1e-3)


def test_fixmatch_counts_what_is_sure_of_the_weak_view() -> None:
    config = FixMatchConfig(
        thresholds="fixed", threshold=0.2, alignment="none", labeller="student", weight=2.0
    )
    objective = config.build(task())
    given = batch(2)
    weak, strong = (softmax(objective.classifier, view) for view in parts(given).views)
    used = weak.max(axis=1) >= 0.2
    assert 0 < used.sum() < len(used)
    losses = -np.log(strong[np.arange(30), weak.argmax(axis=1)])
    expected = labelled_loss(objective.classifier, given) + 2 * (losses * used).mean()
    result = objective.loss(given, 0)
    assert float(result.loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(result.logs["used_share"]) == pytest.approx(used.mean())


def test_distribution_alignment_is_remixmatchs() -> None:
    objective = FixMatchConfig(alignment=tuple([0.5] + [0.5 / 9] * 9)).build(task())
    objective.mean_guess.copy_(torch.arange(1.0, 11.0) / 55)
    chances = torch.randn(6, 10, generator=gen()).softmax(1)
    expected = chances.double().numpy() * objective.prior.numpy() / (np.arange(1, 11) / 55)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(objective.aligned(chances), expected, rtol=1e-5)


def test_adaptive_thresholds_are_freematchs() -> None:
    objective = FixMatchConfig(thresholds="adaptive", alignment="none", labeller="student").build(
        task()
    )
    mean_guess, confidence = np.full(10, 0.1), 0.1
    given = batch(2)
    for _ in range(3):
        weak = softmax(objective.classifier, parts(given).views[0])
        objective.loss(given, 0)
        mean_guess = 0.99 * mean_guess + 0.01 * weak.mean(axis=0)
        confidence = 0.99 * confidence + 0.01 * weak.max(axis=1).mean()
    expected = mean_guess / mean_guess.max() * confidence
    np.testing.assert_allclose(objective.thresholds(), expected, rtol=1e-5)


def test_fairness_is_freematchs_equation() -> None:
    objective = FixMatchConfig(alignment="none", fairness=1.0).build(task())
    objective.mean_guess.copy_(torch.arange(1.0, 11.0) / 55)
    objective.mean_histogram.copy_(torch.arange(10.0, 0.0, -1) / 55)
    logits = 3 * torch.randn(50, 10, generator=gen())
    used = torch.arange(50) % 3 > 0
    chosen = logits[used].double().softmax(1).numpy()
    histogram = np.bincount(chosen.argmax(axis=1), minlength=10) / len(chosen)
    ours = chosen.mean(axis=0) / np.maximum(histogram, 1e-3)
    target = np.arange(1, 11) / np.arange(10, 0, -1)
    expected = (target / target.sum() * np.log(ours / ours.sum())).sum()
    assert float(objective._unfairness(logits, used)) == pytest.approx(expected, rel=1e-4)


def test_priors_of_another_number_of_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 classes, but the images have 10"):
        FixMatchConfig(alignment=(0.2, 0.3, 0.5)).build(task())


def test_neighbours_are_scikit_learns() -> None:
    features = torch.randn(70, 5, generator=gen())
    positions, similarities = neighbours(features, 6)
    judge = NearestNeighbors(n_neighbors=7, metric="cosine").fit(features.numpy())
    distances, expected = judge.kneighbors(features.numpy())
    np.testing.assert_array_equal(np.sort(positions), np.sort(expected[:, 1:]))
    np.testing.assert_allclose(1 - similarities.numpy(), distances[:, 1:], atol=1e-5)


def test_label_propagation_is_the_closed_form() -> None:
    given = task()
    objective = LabelPropagationConfig(neighbours=8, alpha=0.8).build(given)
    features = torch.randn(60, 4, generator=gen())
    labels = torch.arange(30) % 10
    found = objective.spread(features, labels).double().numpy()
    graph = affinity(*neighbours(features, 8)).toarray()
    degree = graph.sum(axis=1)
    normal = graph / np.sqrt(degree[:, None] * degree[None, :])
    known = np.zeros((60, 10))
    known[np.arange(30), labels.numpy()] = 1
    closed = np.linalg.solve(np.eye(60) - 0.8 * normal, known)
    closed /= closed.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, closed, atol=2e-3)


def test_sureness_balances_classes_and_ignores_ties() -> None:
    chances = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    weights = sureness(chances)
    # Four guesses of class 0 (the tie among them) and one of class 1: factors 5/8 and 5/2.
    np.testing.assert_allclose(weights, [0.625, 0.625, 0.625, 1.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("aggregation", ["sum", "mean", "max"])
def test_permuted_nodes_give_permuted_outputs(aggregation: Any) -> None:
    config = MessagePassingConfig(aggregation=aggregation, width=16)
    network = GraphNetwork(5, 4, config, gen()).double()
    nodes = torch.randn(40, 5, generator=gen()).double()
    positions, similarities = neighbours(nodes, 6)
    order = torch.randperm(40, generator=gen(1))
    place = order.argsort()
    shuffled = torch.randperm(
        6, generator=gen(2)
    )  # the order of a node's edges is no matter either
    output = network(nodes, positions, similarities)
    moved = network(
        nodes[order], place[positions[order]][:, shuffled], similarities[order][:, shuffled]
    )
    torch.testing.assert_close(moved, output[order])


def test_messages_travel_one_edge_in_a_round() -> None:
    nodes = torch.randn(10, 3, generator=gen())
    chain = (torch.arange(10).unsqueeze(1) - 1).clamp_min(0)  # each node hears the one before
    for rounds in (1, 3):
        network = GraphNetwork(3, 2, MessagePassingConfig(rounds=rounds, width=16), gen())
        moved = nodes.clone()
        moved[0] += 5.0
        strength = torch.ones(10, 1)
        change = (network(moved, chain, strength) - network(nodes, chain, strength)).abs().sum(1)
        assert (change[: rounds + 1] > 0).all()
        assert (change[rounds + 1 :] == 0).all()


def rungs() -> Task:
    """A task with batch norm at every level."""
    return task("batch", logit_norm="batch")


def test_ladder_without_noise_has_nothing_to_denoise() -> None:
    objective = LadderConfig(noise=0.0).build(rungs()).train()
    result = objective.loss(batch(1), 0)
    # Denoisers start as the identity, so that clean levels come back as they are.
    assert float(result.logs["unlabelled_loss"]) == pytest.approx(0.0, abs=1e-6)


def test_ladder_error_is_the_weighted_sum_over_levels() -> None:
    objective = LadderConfig(noise=0.3, costs=(2.0, 3.0, 5.0)).build(rungs()).train()
    given = batch(1)
    images = parts(given).views[0]
    with torch.no_grad():
        clean, _ = objective._up(images, None)
        noisy, logits = objective._up(images, gen(5))
        above = normalised(logits.softmax(1))
        expected = 0.0
        for number, cost in ((3, 5.0), (2, 5.0), (1, 3.0), (0, 2.0)):
            denoised = objective.denoise[number](noisy[number], above)
            expected += cost * float(((denoised - clean[number]) ** 2).mean())
            if number:
                above = normalised(objective.down[number - 1](denoised))
    objective = LadderConfig(noise=0.3, costs=(2.0, 3.0, 5.0)).build(rungs()).train()
    found = float(objective.loss(batch(1), 0).logs["unlabelled_loss"])
    assert found == pytest.approx(expected, rel=1e-4)


def test_ladder_levels_are_batch_normalised() -> None:
    objective = LadderConfig().build(rungs()).train()
    levels, logits = objective._up(torch.rand(64, 1, 8, 8, generator=gen()), None)
    assert [level.shape[1] for level in levels] == [64, 32, 16, 10]
    for level in levels[1:]:
        assert level.mean(0).abs().max() < 1e-5
        assert (level.std(0, correction=0) - 1).abs().max() < 0.05
    expected = objective.classifier(torch.rand(64, 1, 8, 8, generator=gen()))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_full_ladder_needs_a_fully_connected_network_with_batch_norm() -> None:
    with pytest.raises(ConfigError, match=r"classification\.logit_norm"):
        LadderConfig().build(task("batch"))
    for given in (task(logit_norm="batch"), task(network=LeNetConfig(), logit_norm="batch")):
        with pytest.raises(ConfigError, match="gamma"):
            LadderConfig().build(given)
        LadderConfig(kind="gamma").build(given).loss(batch(1), 0)


@pytest.mark.parametrize("threshold", [0.0, 0.22, 1.0])
def test_fixmatch_passes_over_what_does_not_count(threshold: float) -> None:
    objective = FixMatchConfig(threshold=threshold, alignment="none").build(task())
    given, passed = batch(2), []
    objective.classifier.register_forward_hook(lambda *call: passed.append(len(call[2])))
    share = objective.loss(given, 0).logs["used_share"]
    weak = parts(given).views[0]
    sure = objective.teacher(weak).softmax(dim=1).amax(dim=1) >= threshold
    assert float(share) == pytest.approx(float(sure.float().mean()))
    assert passed == [len(given.images) + int(sure.sum())]


@pytest.mark.parametrize("alpha", [0.5, 0.99, 0.999])
def test_propagation_is_a_hundred_rounds(alpha: float) -> None:
    """Zhou et al.'s iteration, which is still under way where alpha is near 1."""
    features = torch.randn(60, 4, generator=gen())
    graph = affinity(*neighbours(features, 8))
    labels = torch.arange(12) % 3
    dense = torch.from_numpy(graph.toarray())
    degrees = dense.sum(dim=1)
    passed_on = dense / (degrees.view(-1, 1) * degrees).sqrt()
    known = torch.zeros(60, 3).double()
    known[:12] = torch.nn.functional.one_hot(labels, 3).double()
    shares = known
    for _ in range(100):
        shares = alpha * passed_on @ shares + (1 - alpha) * known
    expected = (shares / shares.sum(dim=1, keepdim=True)).float()
    torch.testing.assert_close(propagate(graph, labels, 3, alpha), expected, atol=2e-3, rtol=0)


def test_balanced_shares_have_the_prior_and_keep_the_order_within_a_class() -> None:
    shares = torch.rand(200, 4, generator=gen()) + torch.tensor([2.0, 0.5, 0.2, 0.1])
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4])
    found = balanced(shares, prior)
    np.testing.assert_allclose(found.sum(dim=1), 1, atol=1e-5)
    np.testing.assert_allclose(found.mean(dim=0), prior, atol=1e-3)


def test_principal_components_are_those_of_the_covariance() -> None:
    features = torch.randn(50, 8, generator=gen()) @ torch.randn(8, 8, generator=gen()) + 3
    found = principal_components(features, 3)
    centred = features - features.mean(dim=0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    expected = centred @ vectors[:, [-1, -2, -3]]
    assert torch.allclose(found.abs(), expected.abs(), atol=1e-3)
    whole = principal_components(features, 100)
    assert torch.allclose(whole @ whole.T, centred @ centred.T, atol=1e-2)


def test_images_that_no_label_reaches_are_taken_for_nothing() -> None:
    """Two far groups of features, labels in one of them alone."""
    given = task()
    objective = FixMatchConfig(graph_start=0.5, graph_nodes=150).build(given)

    class Far(nn.Linear):
        def forward(self, images: Tensor) -> Tensor:
            first = torch.linspace(0.5, 1.0, len(images)).view(-1, 1)
            alone = torch.zeros(len(images), 1) if len(images) == NUM_LABELLED else None
            if alone is None:
                alone = (torch.arange(len(images)) % 2).float().view(-1, 1)
            side = torch.cat([1 - alone, alone], dim=1)
            return torch.cat([side * first, 0.05 * side * first.square()], dim=1)

    objective.classifier.encoder = Far(1, 1)
    objective.before_epoch(0, 10)
    assert int((objective.targets >= 0).sum()) == 75  # every second of those drawn


@pytest.mark.parametrize("alignment", ["uniform", "labels", "none"])
@pytest.mark.parametrize(
    "config",
    [FixMatchConfig(graph_start=0.5, graph_nodes=150), VirtualAdversarialConfig()],
    ids=["fixmatch", "virtual_adversarial"],
)
def test_a_class_without_labels_breaks_nothing(config: Any, alignment: str) -> None:
    given = task()
    labels = np.where(given.labels == 3, 4, given.labels)
    given = replace(given, labels=labels)
    objective = replace(config, alignment=alignment).build(given)
    objective.before_epoch(0, 10)
    some = batch(2)
    known = torch.where(some.labels == 3, 4, some.labels)
    loss = objective.loss(replace(some, labels=known), 0).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters() if p.grad is not None)


def test_what_a_graph_says_counts_where_it_reaches() -> None:
    objective = LabelPropagationConfig().build(task())
    objective.targets[:3] = torch.tensor([2, 5, 7])
    objective.weights[:3] = torch.tensor([0.5, 0.0, 1.0])
    found = torch.zeros(3, 10)
    found[:, 9] = 1.0
    labels, counts = objective.taken(torch.arange(3), found)
    assert labels.tolist() == [2, 9, 7]
    assert counts.tolist() == [True, False, True]


def test_pseudo_labels_are_counted_by_class() -> None:
    """Against a count by hand, with a predictor that is known to be right or wrong."""
    given = task()
    objective = FixMatchConfig(threshold=0.6, alignment="none").build(given)
    truth = digits().labels[NUM_LABELLED : NUM_LABELLED + NUM_UNLABELLED]

    class Told(nn.Module):
        """Sure of the first half of the images, and right about the even ones."""

        def forward(self, images: Tensor) -> Tensor:
            labels = torch.from_numpy(truth[: len(images)])
            guesses = torch.where(torch.arange(len(images)) % 2 == 0, labels, (labels + 1) % 10)
            sure = torch.where(torch.arange(len(images)) < len(images) // 2, 5.0, 0.1)
            return torch.nn.functional.one_hot(guesses, 10) * sure.view(-1, 1)

    told = Told()
    told.register_parameter("device", nn.Parameter(torch.zeros(1)))
    objective.teacher.network = told
    held_out = LabelledImages(given.unlabelled[:], truth)
    table = pseudo_label_table(objective, given.unlabelled, held_out, seed=0)
    count = len(truth)
    even = np.arange(count) % 2 == 0
    guesses = np.where(even, truth, (truth + 1) % 10)
    sure = np.arange(count) < count // 2
    for label, row in enumerate(table):
        taken = guesses == label
        assert row["guessed"] == taken.sum()
        assert row["used"] == row["judged"] == (taken & sure).sum()
        assert row["right"] == (taken & sure & even).sum()


def test_fixmatch_can_start_from_a_graph() -> None:
    given = task()
    objective = FixMatchConfig(graph_start=0.5, graph_nodes=150).build(given)
    objective.before_epoch(0, 10)
    used = objective.targets >= 0
    assert int(used.sum()) == 150
    truth = torch.from_numpy(digits().labels[NUM_LABELLED : NUM_LABELLED + NUM_UNLABELLED])
    right = float((objective.targets == truth)[used].float().mean())
    with torch.no_grad():
        known, unknown = (
            given.classifier.encoder(to_float(as_tensor(images))).numpy()
            for images in (given.images, given.unlabelled[:])
        )
    nearest = KNeighborsClassifier(1, metric="cosine").fit(known, given.labels)
    assert right > nearest.score(unknown[used], truth[used]) > 0.3
    share = float(objective.loss(batch(2), 0).logs["used_share"])
    assert share == pytest.approx(float(used[:30].float().mean()))
    objective.before_epoch(5, 10)
    assert objective.progress == 0.5
    assert float(objective.loss(batch(2), 0).logs["used_share"]) != pytest.approx(share)
