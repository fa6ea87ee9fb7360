"""Settings: built, merged, refused with one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewlabels.blocks.losses import ClassificationConfig
from fewlabels.config import build, build_named, load_toml, merge, parse_assignments, to_values
from fewlabels.errors import ConfigError, UnknownNameError
from fewlabels.lookup import find
from fewlabels.networks import NETWORKS
from fewlabels.networks.mlp import MLPConfig
from fewlabels.pretext.masked_autoencoder import MaskedAutoencoderConfig
from fewlabels.training.settings import TrainingConfig, build_training
from fewlabels.workflows.recipes import recipes
from fewlabels.workflows.settings import build_settings, load_settings


def test_assignments_are_toml_or_words() -> None:
    values = parse_assignments(["a.b=[1, 2]", "a.c=word", "d=1.5", "e=true", "f='01'"])
    assert values == {"a": {"b": [1, 2], "c": "word"}, "d": 1.5, "e": True, "f": "01"}


def test_changing_the_name_drops_the_other_classes_keys() -> None:
    below = {"optimiser": {"name": "adamw", "weight_decay": 0.1}, "x": 1}
    assert merge(below, {"optimiser": {"name": "sgd"}}) == {"optimiser": {"name": "sgd"}, "x": 1}
    kept = merge(below, {"optimiser": {"name": "adamw", "beta1": 0.8}})["optimiser"]
    assert kept == {"name": "adamw", "weight_decay": 0.1, "beta1": 0.8}
    assert merge(below, {"optimiser": "sgd"}, {"optimiser": {"l2": 0.1}}) == {
        "optimiser": {"name": "sgd", "l2": 0.1},
        "x": 1,
    }


@given(st.dictionaries(st.text(min_size=1), st.integers()))
def test_merge_with_nothing_changes_nothing(values: dict) -> None:
    assert merge(values, {}) == merge({}, values) == values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"widhts": [3]}, ["widhts", "widths"]),
        ({"widths": "wide"}, ["network.widths", "'wide'"]),
        ({"widths": [3, 0]}, ["network.widths[1]", "greater than 0"]),
        ({"latent": 0}, ["network.latent", "greater than 0", "'none'"]),
        ({"dropout": 1.0}, ["network.dropout", "less than 1"]),
        ({"activation": "rulu"}, ["rulu", "relu"]),
    ],
)
def test_wrong_values_are_named(values: dict, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(MLPConfig, values, "network")
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(n for n, one in recipes().items() if one.complete))
def test_recipes_load_and_survive_the_round_trip(name: str, tmp_path: Path) -> None:
    import tomli_w

    settings = load_settings(name)
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(settings.to_values()))
    assert build_settings(load_toml(path)) == settings


def test_layers_lie_over_each_other(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nepochs = 7\nbatch_size = 8\n")
    settings = load_settings(
        "scratch",
        config=path,
        assignments=["training.batch_size=16"],
        flags={"split": {"shares": "80/10/10"}},
    )
    assert (settings.training.epochs, settings.training.batch_size) == (7, 16)
    assert settings.split.shares == "80/10/10"


def test_broken_settings_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[training\n")
    with pytest.raises(ConfigError, match=r"mine\.toml is not valid TOML"):
        load_settings("scratch", config=path)


def test_none_is_left_out_of_plain_values() -> None:
    assert to_values({"a": None, "b": (1, 2)}) == {"a": None, "b": [1, 2]}
    settings = load_settings("scratch")
    assert "labels" not in settings.to_values()["data"]


def test_unknown_names_list_close_matches() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'frozen'\? Allowed: frozen, full"):
        find({"frozen": 1, "full": 2}, "frozne", "strategy")


@pytest.mark.parametrize(
    ("config_class", "values", "sentence"),
    [
        (
            MLPConfig,
            {"widths": 5},
            "`x.widths` must be a list in square brackets, such as [1000, 500, 250]. Got 5.",
        ),
        (MLPConfig, {"widths": [3, "a"]}, "`x.widths[1]` must be a whole number. Got 'a'."),
        (MLPConfig, {"latent": 2.5}, "`x.latent` must be a whole number or 'none'. Got 2.5."),
        (MLPConfig, {"latent": -1}, "`x.latent` must be greater than 0 or 'none'. Got -1."),
        (MLPConfig, {"latent": True}, "`x.latent` must not be true or false. Got True."),
        (MLPConfig, {"widths": [3, True]}, "`x.widths` must not be true or false. Got [3, True]."),
        (
            MLPConfig,
            {"centre": "pixl"},
            "`x.centre` must be 'channel', 'pixel' or 'none'. Got 'pixl'.",
        ),
        (MLPConfig, {"dropout": "a"}, "`x.dropout` must be a number. Got 'a'."),
        (MLPConfig, {"dropout": -0.1}, "`x.dropout` must be at least 0. Got -0.1."),
        (MLPConfig, {"dropout": float("nan")}, "`x.dropout` must be a finite number. Got nan."),
        (MLPConfig, {"activation": 5}, "`x.activation` must be text. Got 5."),
        (
            MLPConfig,
            {"norm": "btach"},
            "`x.norm`: Unknown norm 'btach'. Did you mean 'batch'? "
            "Allowed: batch, group, instance, layer, none.",
        ),
        (MaskedAutoencoderConfig, {"mask": 1.0}, "`x.mask` must be less than 1. Got 1.0."),
        (
            MaskedAutoencoderConfig,
            {"augmented": "maybe"},
            "`x.augmented` must be true or false. Got 'maybe'.",
        ),
        (TrainingConfig, {"epochs": 1.5}, "`x.epochs` must be a whole number. Got 1.5."),
        (TrainingConfig, {"patience": -1}, "`x.patience` must be at least 0. Got -1."),
        (
            ClassificationConfig,
            {"losss": "a"},
            "Unknown key of [x] 'losss'. Did you mean 'loss'? "
            "Allowed: class_weights, label_smoothing, logit_norm, loss.",
        ),
    ],
)
def test_sentences(config_class: type, values: dict, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(config_class, values, "x")
    assert str(caught.value) == sentence


def test_all_wrong_keys_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build(MLPConfig, {"widths": "a", "dropout": 3, "activatoin": "relu"}, "network")
    text = str(caught.value)
    assert all(key in text for key in ("network.widths", "network.dropout", "activatoin"))


def test_section_without_a_name_or_no_section_at_all() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^`network\.name` is missing\. Allowed: alexnet, conv_lstm, .*, xception\.$",
    ):
        build_named(NETWORKS, {"widths": [3]}, "network", "network")
    for wrong in (5, [1], True):
        with pytest.raises(ConfigError, match=r"`training\.optimiser` must be a section"):
            build_training({"optimiser": wrong}, "training")
    with pytest.raises(UnknownNameError, match="Did you mean 'cosine'"):
        build_training({"schedule": "cosin"}, "training")


@pytest.mark.parametrize("assignment", ["a", "=3", "a..b=3", ".=3", "a.b", " =1"])
def test_malformed_assignments(assignment: str) -> None:
    with pytest.raises(ConfigError, match=r"is not of the form a\.b=value"):
        parse_assignments([assignment])


@given(
    st.lists(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), min_size=1, max_size=3),
    st.one_of(
        st.integers(-(2**63), 2**63 - 1),
        st.booleans(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(codec="ascii", exclude_categories=["C"])),
        st.lists(st.integers(0, 9)),
    ),
)
def test_assigning_what_toml_writes_gives_it_back(keys: list[str], value: object) -> None:
    import tomli_w

    written = tomli_w.dumps({"v": value}).removeprefix("v = ").strip()
    nested = parse_assignments([f"{'.'.join(keys)}={written}"])
    for key in keys:
        nested = nested[key]
    assert nested == value


def test_later_assignments_win_and_layers_stay_as_they_are() -> None:
    assert parse_assignments(["a.b=1", "a.b=2", "a.c=3"]) == {"a": {"b": 2, "c": 3}}
    below, above = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(below, above) == {"a": {"b": 1, "c": 2}}
    assert (below, above) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_settings_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff\xfe")
    for path, words in {
        tmp_path / "missing.toml": "There is no settings file",
        tmp_path: "cannot be read",
        tmp_path / "file" / "below.toml": "cannot be read",
        tmp_path / "file": "is not valid TOML",
    }.items():
        with pytest.raises(ConfigError, match=words) as caught:
            load_toml(path)
        assert str(path) in str(caught.value)
