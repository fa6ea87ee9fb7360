"""Settings: built, merged, refused with one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewlabels.config import build, load_toml, merge, parse_assignments, to_values
from fewlabels.errors import ConfigError, UnknownNameError
from fewlabels.lookup import find
from fewlabels.networks.mlp import MLPConfig
from fewlabels.workflows.settings import build_settings, load_settings, recipes


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


@pytest.mark.parametrize("name", sorted(recipes()))
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
