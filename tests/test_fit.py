"""The main job, on real digits, with phases cut short."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from fewlabels.data.builtin import digits
from fewlabels.data.image_set import NO_LABEL
from fewlabels.errors import DataError, FewlabelsError
from fewlabels.training.device import choose
from fewlabels.workflows.compare import compare
from fewlabels.workflows.fit import fit, resume
from fewlabels.workflows.model import Model, load_model
from fewlabels.workflows.prepare import prepare
from fewlabels.workflows.settings import Settings, load_settings
from fewlabels.workflows.testing import test_run as open_seal

QUICK = (
    "pretraining.epochs=8",
    "training.epochs=120",
    "network.widths=[64, 32]",
    "transfer.strategies=['frozen', 'full']",
    "run.precision=32",
)


def quick_settings(*assignments: str, num_labels: int = 60) -> Settings:
    return load_settings(
        "digits",
        assignments=[*QUICK, "data.source=digits", f"data.num_labels={num_labels}", *assignments],
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return fit(quick_settings(), tmp_path_factory.mktemp("runs"))


def test_run_folder_is_complete(finished: dict) -> None:
    run = Path(finished["run"])
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.toml",
        "environment.json",
        "history.csv",
        "splits.json",
        "seal.json",
        "checkpoints",
        "model",
        "result.json",
        "report.html",
        "report_data.safetensors",
        "settings.toml",
    }
    assert json.loads((run / "result.json").read_text()) == finished
    assert not list(run.rglob("*.pkl")) + list(run.rglob("*.pt"))


def test_result_has_the_promised_keys(finished: dict) -> None:
    promised = ["run", "seconds", "phases", "comparison", "chosen", "val_accuracy", "val_interval"]
    assert set(promised) <= set(finished)
    assert finished["test_accuracy"] is None
    names = [row["name"] for row in finished["comparison"]]
    assert {"majority_class", "scratch", "transfer_frozen", "transfer_full"} <= set(names)
    assert [phase["name"] for phase in finished["phases"]] == [
        "scratch",
        "transfer_frozen",
        "transfer_full",
        "pretrain",
        "refit",
    ]
    assert finished["network"]["fully_connected_only"] is True


def test_without_refit_the_validated_network_is_shipped(tmp_path: Path) -> None:
    settings = quick_settings("run.refit=false", "transfer.strategies=[]")
    result = fit(settings, tmp_path)
    assert [phase["name"] for phase in result["phases"]] == ["scratch"]
    assert "then trained again" not in (Path(result["run"]) / "report.html").read_text()
    prepared, _ = prepare(settings)
    model = load_model(Path(result["run"]) / "model")
    validation = prepared.validation
    found = model.predict(validation.images, choose("cpu", "32")).argmax(axis=1)
    assert (found == validation.labels).mean() == pytest.approx(result["val_accuracy"])


def test_network_learns_something(finished: dict) -> None:
    rows = {row["name"]: row["val_accuracy"] for row in finished["comparison"]}
    assert rows["scratch"] > rows["majority_class"] + 0.3
    assert finished["pretraining"]["error"] < finished["pretraining"]["mean_image_error"]


def test_history_has_a_row_for_every_epoch(finished: dict) -> None:
    with open(Path(finished["run"]) / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    by_phase = {name: [r for r in rows if r["phase"] == name] for name in ("pretrain", "scratch")}
    assert [int(row["epoch"]) for row in by_phase["pretrain"]] == list(range(8))
    assert [int(row["epoch"]) for row in by_phase["scratch"]] == list(range(120))
    assert all(float(row["train_loss"]) > 0 for row in rows)


def test_hidden_and_test_labels_reach_nothing() -> None:
    prepared, _ = prepare(quick_settings())
    truth = digits().labels
    split, labels = prepared.split, prepared.data.labels
    visible = np.flatnonzero(labels != NO_LABEL)
    assert sorted(visible) == sorted([*split.train, *split.validation])
    assert len(split.train) + len(split.validation) == 60
    assert len(split.test) == 500
    np.testing.assert_array_equal(labels[visible], truth[visible])
    assert not set(split.test) & set(split.pretraining(len(truth)))


def test_shuffled_test_labels_change_nothing_before_the_seal_opens(tmp_path: Path) -> None:
    """The whole run is the same bit for bit, whatever the test labels say."""
    images, labels = digits().images[:400, 0], digits().labels[:400].copy()
    settings = quick_settings("pretraining.epochs=2", "training.epochs=5", num_labels=399)
    outcomes = []
    for name in ("right", "wrong"):
        test = slice(300, 400)
        if name == "wrong":
            labels[test] = np.roll(labels[test], 1)
        path = tmp_path / f"{name}.npz"
        np.savez(
            path,
            train_images=images[:300],
            train_labels=labels[:300],
            test_images=images[test],
            test_labels=labels[test],
        )
        from dataclasses import replace

        data = replace(settings.data, source=str(path), num_labels=None)
        result = fit(replace(settings, data=data), tmp_path / name)
        weights = (Path(result["run"]) / "model" / "weights.safetensors").read_bytes()
        outcomes.append((result["comparison"][4:], weights))
    first, second = outcomes
    assert first[1] == second[1]


def test_opening_the_seal_is_recorded_and_warned_about(
    finished: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(finished["run"])
    first = open_seal(run)
    assert first["test_openings"] == 1
    assert first["test"]["num_images"] == first["data"]["counts"]["test"]
    capsys.readouterr()
    second = open_seal(run)
    assert second["test_openings"] == 2
    assert "Warning" in capsys.readouterr().err
    seal = json.loads((run / "seal.json").read_text())
    assert [opening["run"] for opening in seal["openings"]] == [run.name, run.name]
    assert "2" in (run / "report.html").read_text()


def test_same_seed_same_weights(finished: dict, tmp_path: Path) -> None:
    again = fit(quick_settings(), tmp_path)
    for name in ("model/weights.safetensors", "splits.json"):
        first, second = (Path(result["run"], name).read_bytes() for result in (finished, again))
        assert first == second


def test_finished_run_is_not_trained_again(
    finished: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resume(Path(finished["run"]))["chosen"] == finished["chosen"]
    assert "already finished" in capsys.readouterr().err


def test_resume_refuses_changed_images(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    data = digits()
    np.savez(path, images=data.images[:300, 0], labels=data.labels[:300])
    settings = quick_settings(f"data.source='{path}'", "training.epochs=2", "pretraining.epochs=1")
    run = Path(fit(settings, tmp_path / "runs")["run"])
    (run / "result.json").unlink()
    images = data.images[:300, 0].copy()
    images[:, 0, 0] = 255
    np.savez(path, images=images, labels=data.labels[:300])
    with pytest.raises(FewlabelsError, match="Restore"):
        resume(run)


def test_scratch_recipe_runs_without_pretraining(tmp_path: Path) -> None:
    settings = load_settings(
        "scratch",
        assignments=[
            "data.source=digits",
            "data.num_labels=40",
            "training.epochs=3",
            "network.widths=[16]",
        ],
    )
    result = fit(settings, tmp_path)
    assert result["pretraining"] is None
    assert result["chosen"] == "scratch"


def test_norm_of_the_logits_is_saved_with_the_model(tmp_path: Path) -> None:
    settings = quick_settings("classification.logit_norm=batch", "pretraining.epochs=1")
    result = fit(settings, tmp_path)
    model = load_model(Path(result["run"], "model"))
    assert isinstance(model, Model)
    assert isinstance(model.classifier.logit_norm, nn.BatchNorm1d)
    data = digits()
    found = model.predict(data.images, choose("cpu", "32")).argmax(axis=1)
    assert (found == data.labels).mean() > 0.6


def test_compare_pairs_the_draws() -> None:
    settings = quick_settings("training.epochs=15", "pretraining.epochs=4")
    result = compare(settings, 3)
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == {"scratch", "transfer_frozen", "transfer_full"}
    assert all(len(row["accuracies"]) == 3 for row in rows.values())
    full, scratch = rows["transfer_full"], rows["scratch"]
    differences = np.subtract(full["accuracies"], scratch["accuracies"])
    assert full["difference"]["mean"] == pytest.approx(differences.mean())
    assert full["helps"] in ("yes", "no, it hurts", "not shown")


def test_compare_needs_two_draws() -> None:
    with pytest.raises(DataError, match="at least 2 draws"):
        compare(quick_settings(), 1)
