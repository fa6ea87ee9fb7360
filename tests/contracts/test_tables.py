"""Contracts over every table: builds from defaults, learns, saves, repeats, refuses."""

from __future__ import annotations

import inspect
import math
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewlabels.blocks.activations import ACTIVATIONS
from fewlabels.blocks.convolutions import ConvolutionUnit
from fewlabels.blocks.dropout import DROPOUTS
from fewlabels.blocks.filters import FILTERS
from fewlabels.blocks.initialisation import INITIALISATIONS
from fewlabels.blocks.losses import LOSSES, ClassificationConfig
from fewlabels.blocks.norms import NORMS
from fewlabels.blocks.pooling import POOLINGS
from fewlabels.blocks.upsampling import UPSAMPLINGS
from fewlabels.config import build, build_named
from fewlabels.contracts import Batch, Encoder, Unlabelled
from fewlabels.data import builtin
from fewlabels.data.image_set import ImageSet
from fewlabels.errors import ConfigError, UnknownNameError
from fewlabels.networks import NETWORKS
from fewlabels.networks.classifier import Classifier
from fewlabels.pretext import PRETEXTS
from fewlabels.pretext.objective import Generates, HasLatents, Reconstructs
from fewlabels.semisupervised import SEMISUPERVISED
from fewlabels.semisupervised.objective import SemiSupervised, Task
from fewlabels.training.optimisers import OPTIMISERS
from fewlabels.training.schedules import SCHEDULES
from fewlabels.transfer import STRATEGIES
from fewlabels.transfer.supervised import Supervised

NAMED_CONFIGS: dict[str, Any] = {
    f"{what}/{name}": (table, name)
    for what, table in {
        "network": NETWORKS,
        "pretext": PRETEXTS,
        "semisupervised": SEMISUPERVISED,
        "optimiser": OPTIMISERS,
        "schedule": SCHEDULES,
    }.items()
    for name in table
}


# What stands for other libraries' networks is tested in test_pretrained.py.
OURS = sorted(set(NETWORKS) - {"pretrained"})

DENSE = [name for name in OURS if hasattr(NETWORKS[name], "build_dense")]


@cache
def digits() -> ImageSet:
    """Read once: the tests ask for them in every step."""
    return builtin.digits()


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def eight(channels: int = 1) -> Batch:
    images = torch.from_numpy(digits().images[:8]).float() / 255
    images = images.expand(-1, channels, -1, -1)
    labels = torch.from_numpy(digits().labels[:8])
    return Batch(images=images, clean=images, labels=labels, generator=gen())


@pytest.mark.parametrize("entry", NAMED_CONFIGS)
def test_settings_carry_their_key_and_refuse_what_is_unknown(entry: str) -> None:
    table, name = NAMED_CONFIGS[entry]
    assert build_named(table, {"name": name}, "section", "entry") == table[name]()
    assert table[name]().name == name
    with pytest.raises(UnknownNameError, match="Allowed"):
        build_named(table, {"name": f"{name}x"}, "section", "entry")
    with pytest.raises(ConfigError, match="no_such_key"):
        build(table[name], {"no_such_key": 1}, "section")


@pytest.mark.parametrize("entry", NAMED_CONFIGS)
def test_settings_are_frozen_and_explained(entry: str) -> None:
    table, name = NAMED_CONFIGS[entry]
    config = table[name]()
    with pytest.raises(Exception, match="cannot assign"):
        config.name = "other"
    assert inspect.getdoc(table[name])


SHAPES = [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 32, 32), (2, 19, 33)]


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_network_keeps_the_encoder_contract(name: str, shape: tuple[int, int, int]) -> None:
    state = torch.random.get_rng_state()
    encoder = NETWORKS[name]().build(shape, gen())
    assert torch.equal(state, torch.random.get_rng_state())
    assert isinstance(encoder, Encoder)
    images = torch.rand(8, *shape, generator=gen(1))
    features = encoder(images)
    assert features.shape == (8, encoder.num_features)
    assert features.dtype == torch.float32
    features.sum().backward()
    staged = [p for stage in encoder.stages() for m in stage for p in m.parameters()]
    assert len(staged) == len(set(staged))
    assert set(staged) == set(encoder.parameters())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in staged)
    assert len(encoder.forward_features(images)) == 8


@pytest.mark.parametrize("name", OURS)
def test_stages_are_in_the_order_of_the_way_through(name: str) -> None:
    """What a gradual unfreezing relies on: the last stage is the one next to the features."""
    encoder = NETWORKS[name]().build((3, 16, 16), gen())
    ran: list[int] = []
    for number, stage in enumerate(encoder.stages()):
        for module in stage:
            module.register_forward_hook(lambda *_, number=number: ran.append(number))
    encoder.eval()(torch.rand(2, 3, 16, 16, generator=gen(1)))
    assert ran == sorted(ran)
    assert set(ran) == set(range(len(encoder.stages())))


@pytest.mark.parametrize("name", OURS)
def test_network_saves_and_repeats(name: str, tmp_path: Path) -> None:
    first = NETWORKS[name]().build((1, 8, 8), gen())
    same = NETWORKS[name]().build((1, 8, 8), gen())
    other = NETWORKS[name]().build((1, 8, 8), gen(1)).eval()
    images = eight().images
    assert torch.equal(first.eval()(images), same.eval()(images))
    assert not torch.equal(first(images), other(images))
    save_file(first.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(first(images), other(images))


@pytest.mark.parametrize("name", OURS)
def test_network_is_exported(name: str) -> None:
    encoder = NETWORKS[name]().build((1, 8, 8), gen()).eval()
    images = eight().images
    with torch.no_grad():
        with warnings.catch_warnings():  # of torch, about its own recurrent layers
            warnings.simplefilter("ignore", UserWarning)
            exported = torch.export.export(encoder, (images,)).module()
        torch.testing.assert_close(exported(images), encoder(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", OURS)
def test_every_strategy_finds_its_stages(name: str) -> None:
    for make in STRATEGIES.values():
        encoder = NETWORKS[name]().build((1, 8, 8), gen())
        objective = Supervised(Classifier(encoder, 10, gen()), ClassificationConfig(), make())
        groups = objective.parameter_groups()["main"]
        grouped = [p for group in groups for p in group.parameters]
        assert len(grouped) == len(set(grouped))
        assert set(objective.classifier.head_parameters()) <= set(grouped)


@pytest.mark.parametrize("network", OURS)
def test_classifier_overfits_eight_images(network: str) -> None:
    assert overfits(network, "full")


@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"full"}))
@pytest.mark.parametrize("network", ["lenet", "mlp", "wide_resnet"])
def test_every_strategy_overfits_eight_images(network: str, strategy: str) -> None:
    assert overfits(network, strategy)


def overfits(network: str, strategy: str) -> bool:
    encoder = NETWORKS[network]().build((1, 8, 8), gen())
    objective = Supervised(
        Classifier(encoder, 10, gen()), ClassificationConfig(), STRATEGIES[strategy]()
    )
    batch = eight()
    # Deep ones already swing where shallow ones learn fast.
    rate = 1e-2 if network in ("lenet", "mlp", "wide_resnet") else 2e-3
    optimiser = torch.optim.Adam(objective.parameters(), lr=rate)
    for step in range(60):
        objective.before_epoch(step, 60)
        optimiser.zero_grad()
        objective.loss(batch, step).loss.backward()
        optimiser.step()
    objective.eval()
    return bool((objective.classifier(batch.images).argmax(1) == batch.labels).all())


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 19, 22)])
def test_the_way_up_gives_a_map_an_output(name: str, shape: tuple[int, int, int]) -> None:
    config = NETWORKS[name]()
    encoder = config.build(shape, gen())
    dense = config.build_dense(encoder, 5, gen())
    images = torch.rand(8, *shape, generator=gen(1))
    levels = encoder.levels(images)
    maps = dense(levels)
    assert maps.shape == (8, 5, *shape[1:])
    maps.sum().backward()
    assert all(p.grad is not None for p in [*encoder.parameters(), *dense.parameters()])


@pytest.mark.parametrize("name", DENSE)
def test_the_way_up_learns_to_draw(name: str) -> None:
    config = NETWORKS[name]()
    encoder = config.build((1, 8, 8), gen())
    dense = config.build_dense(encoder, 2, gen())
    images = eight().images
    bright = (images[:, 0] > 0.5).long()
    optimiser = torch.optim.Adam([*encoder.parameters(), *dense.parameters()], lr=3e-3)
    losses = []
    for _ in range(80):
        levels = encoder.levels(images)
        loss = torch.nn.functional.cross_entropy(dense(levels), bright)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("how", [*UPSAMPLINGS, "mlp"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 19, 33), (1, 3, 5)])
def test_decoders_end_in_the_image(how: str, shape: tuple[int, int, int]) -> None:
    config = NETWORKS["wide_resnet"](decoder=how)
    decoder = config.build_decoder(shape, 12, "sigmoid", gen())
    drawn = decoder(torch.randn(8, 12, generator=gen()))
    assert drawn.shape == (8, *shape)
    assert ((drawn >= 0) & (drawn <= 1)).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_units_take_every_activation(name: str) -> None:
    unit = ConvolutionUnit(2, 4, activation_name=name)
    assert unit(torch.rand(8, 2, 6, 6, generator=gen())).shape == (8, 4, 6, 6)
    for network in ("mlp", "lenet"):
        encoder = NETWORKS[network](activation=name).build((1, 8, 8), gen())
        assert encoder(eight().images).shape == (8, encoder.num_features)


# Objectives that draw by chance, or whose loss has a floor, fall less.
FALLS_TO = {
    "denoising_autoencoder": 0.6,
    "diffusion": 0.8,
    "masked_autoencoder": 0.7,
    "unet_denoising": 0.7,
    "variance_invariance": 0.7,
    "variational_autoencoder": 0.8,
}
ALL_NETWORKS = ("autoencoder", "contrastive")  # the others on one of each kind
KINDS = ("mlp", "unet", "vision_transformer", "wide_resnet")
PAIRS = [
    (network, pretext)
    for pretext in PRETEXTS
    for network in (OURS if pretext in ALL_NETWORKS else KINDS)
    if pretext not in ("diffusion", "unet_denoising") or network == "unet"
]


@pytest.mark.parametrize(("network", "pretext"), PAIRS)
def test_pretext_objective_overfits_eight_images(network: str, pretext: str) -> None:
    config, settings = NETWORKS[network](), PRETEXTS[pretext]()
    if hasattr(config, "dropout"):  # which hides from one view what the other one shows
        config = replace(config, dropout=0.0)
    encoder = config.build((1, 8, 8), gen())
    objective = settings.build(encoder, config, gen())
    optimiser = torch.optim.Adam(objective.parameters(), lr=1e-3)
    batch = eight()
    noisy = batch.images + 0.05 * torch.randn(batch.images.shape, generator=gen())
    batch = replace(batch, further_views=(noisy,) * (settings.num_views - 1))
    losses = []
    for step in range(80):
        optimiser.zero_grad()
        result = objective.loss(batch, step)
        result.loss.backward()
        optimiser.step()
        objective.after_step(step)
        losses.append(result.loss.item())
    assert all(math.isfinite(loss) for loss in losses)
    if objective.judges_unseen:
        first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
        assert last < FALLS_TO.get(pretext, 0.4) * first


@pytest.mark.parametrize("pretext", PRETEXTS)
def test_pretext_objective_keeps_its_contract(pretext: str) -> None:
    """What it can do it does, its encoder fits an ordinary one, and it repeats."""
    config = NETWORKS["unet"]()
    made = []
    for _ in range(2):
        objective = PRETEXTS[pretext]().build(config.build((1, 8, 8), gen()), config, gen())
        images = eight().images
        batch = replace(eight(), further_views=(images,) * (objective.config.num_views - 1))
        state = torch.random.get_rng_state()
        result = objective.loss(batch, 0)
        assert torch.equal(state, torch.random.get_rng_state())
        objective.eval()
        made.append([result.loss.detach()])
        if isinstance(objective, Reconstructs):
            made[-1].append(objective.reconstruct(images, gen()).detach())
            assert made[-1][-1].shape == images.shape
        if isinstance(objective, Generates):
            made[-1].append(objective.generate(3, gen()).detach())
            assert made[-1][-1].shape == (3, 1, 8, 8)
        if isinstance(objective, HasLatents):
            latents = objective.to_latents(images)
            assert latents.shape == (8, objective.num_latents)
            made[-1].append(objective.from_latents(latents).detach())
            assert made[-1][-1].shape == images.shape
        assert all(((drawn >= 0) & (drawn <= 1)).all() for drawn in made[-1][1:])
        fresh = config.build((1, 8, 8), gen(5)).eval()
        fresh.load_state_dict(objective.finished_encoder().state_dict())
        torch.testing.assert_close(fresh(images), objective.encoder(images))
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))
    groups = [group for named in objective.parameter_groups().values() for group in named]
    learnt = [id(p) for group in groups for p in group.parameters]
    assert len(learnt) == len(set(learnt))
    assert {id(p) for p in objective.finished_encoder().parameters()} <= set(learnt)


@pytest.mark.parametrize(
    "table",
    [
        ACTIVATIONS,
        NORMS,
        DROPOUTS,
        INITIALISATIONS,
        POOLINGS,
        UPSAMPLINGS,
        FILTERS,
        LOSSES,
        STRATEGIES,
        NETWORKS,
        PRETEXTS,
    ],
)
def test_names_are_lower_case_words(table: dict) -> None:
    assert all(name == name.lower().strip() and name.replace("_", "").isalnum() for name in table)


def semisupervised(name: str, network: dict[str, Any], seed: int = 0) -> SemiSupervised:
    """A new objective over 40 labelled and 200 unlabelled digits."""
    data = digits()
    encoder = build_named(NETWORKS, network, "network", "network").build((1, 8, 8), gen(seed))
    settings: dict[str, Any] = {"name": name}
    if name == "ladder" and network["name"] != "mlp":
        settings["kind"] = "gamma"
    task = Task(
        classifier=Classifier(encoder, 10, gen(seed), "batch" if name == "ladder" else "none"),
        classification=ClassificationConfig(),
        class_weights=None,
        images=data.images[:40],
        labels=data.labels[:40],
        unlabelled=data.images[40:240],
        seed=seed,
    )
    return build_named(SEMISUPERVISED, settings, "semisupervised", "objective").build(task)


def paired(objective: Any, name: str, step: int) -> Batch:
    data = digits()
    chosen = torch.randperm(200, generator=gen(step))[:50]
    labelled = torch.randperm(40, generator=gen(step))[:20]
    images = torch.from_numpy(data.images[:40][labelled]).float() / 255
    clean = torch.from_numpy(data.images[40:240][chosen]).float() / 255
    views = tuple(
        clean + 0.03 * torch.randn(clean.shape, generator=gen(step + view))
        for view in range(len(SEMISUPERVISED[name].views))
    )
    return Batch(
        images=images,
        clean=images,
        labels=torch.from_numpy(data.labels[:40])[labelled],
        generator=gen(step),
        unlabelled=Unlabelled(clean=clean, views=views, positions=chosen),
    )


def learn(objective: SemiSupervised, name: str, first: int, last: int) -> torch.optim.Optimizer:
    parameters = [p for group in objective.parameter_groups()["main"] for p in group.parameters]
    optimiser = torch.optim.Adam([p for p in parameters if p.requires_grad], lr=2e-3)
    for step in range(first, last):
        objective.train()
        if step % 10 == 0:
            objective.before_epoch(step // 10, 20)
        optimiser.zero_grad()
        objective.loss(paired(objective, name, step), step).loss.backward()
        optimiser.step()
        objective.after_step(step)
    objective.eval()
    return optimiser


MLP = {"name": "mlp", "widths": [64, 32], "norm": "batch"}


@pytest.mark.parametrize("network", [MLP, {"name": "lenet"}], ids=["mlp", "lenet"])
@pytest.mark.parametrize("name", SEMISUPERVISED)
def test_semisupervised_objective_learns_on_any_encoder(name: str, network: dict) -> None:
    objective = semisupervised(name, network)
    learn(objective, name, 0, 200)
    data = digits()
    images = torch.from_numpy(data.images[:40]).float() / 255
    with torch.no_grad():
        logits = objective.predictor(images)
    assert (logits.argmax(1).numpy() == data.labels[:40]).mean() > 0.8
    assert torch.isfinite(logits).all()
    labels, used = objective.guesses(logits.softmax(1))
    assert labels.shape == used.shape == (40,)
    assert used.dtype == torch.bool


@pytest.mark.parametrize("name", SEMISUPERVISED)
def test_semisupervised_state_holds_all_that_the_next_step_needs(name: str) -> None:
    first, second = semisupervised(name, MLP), semisupervised(name, MLP, seed=1)
    learn(first, name, 0, 25)
    second.load_state_dict(first.state_dict())
    for objective in (first, second):
        objective.train()
        objective.progress = 0.3
    batch = paired(first, name, 30)
    one = first.loss(batch, 30)
    batch = paired(second, name, 30)
    other = second.loss(batch, 30)
    assert torch.equal(one.loss, other.loss)
    assert {"labelled_loss", "unlabelled_loss", "train_accuracy"} <= set(one.logs)
    assert all(not value.requires_grad for value in one.logs.values())


@pytest.mark.parametrize("name", SEMISUPERVISED)
def test_semisupervised_method_has_its_page_and_its_recipe(name: str) -> None:
    root = Path(__file__).parent.parent.parent
    page = (root / "docs" / "semisupervised" / f"{name}.md").read_text()
    for heading in ("**Use it:**", "**Not:**", "**Cost:**", "**Paper:**"):
        assert heading in page
    assert (root / "src" / "fewlabels" / "recipes" / f"{name}.toml").is_file()


@pytest.mark.parametrize("name", SEMISUPERVISED)
def test_every_setting_stands_on_the_objectives_page(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "semisupervised" / f"{name}.md").read_text()
    config = SEMISUPERVISED[name]()
    for key, value in vars(config).items():
        if key != "name":
            shown = list(value) if isinstance(value, tuple) else value
            assert f"`{key}` = {shown}" in page


DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", OURS)
def test_networks_have_their_entry_and_their_drawing(name: str) -> None:
    page = (DOCS / "networks.md").read_text()
    assert f"### `{name}`" in page
    assert f"| `{name}` |" in page, "run python -m benchmarks.drawings"
    assert f"(networks/{name}.svg)" in page
    assert (DOCS / "networks" / f"{name}.svg").is_file()


BLOCKS = {
    "activations": ACTIVATIONS,
    "norms": NORMS,
    "dropout": DROPOUTS,
    "initialisation": INITIALISATIONS,
    "pooling": POOLINGS,
    "upsampling": UPSAMPLINGS,
    "filters": FILTERS,
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_have_their_entry_and_their_picture(name: str) -> None:
    page = (DOCS / "blocks.md").read_text()
    assert all(f"`{one}`" in page for one in BLOCKS[name])
    (picture,) = (DOCS / "blocks").glob(f"{name}.*")
    assert f"(blocks/{picture.name})" in page


@pytest.mark.parametrize("name", PRETEXTS)
def test_pretext_objectives_have_their_page(name: str) -> None:
    page = (DOCS / "pretext" / f"{name}.md").read_text()
    for heading in ("**Use it:**", "**Not:**", "**Cost:**", "**Paper:**", f"--objective {name}"):
        assert heading in page
    for key, value in vars(PRETEXTS[name]()).items():
        if key != "name":
            assert f"`{key}` = {value}" in page
