"""The recipe that chooses for itself: how it judges, what it ships, what it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fewlabels.data.builtin import digits
from fewlabels.data.selection import Selection
from fewlabels.errors import ConfigError
from fewlabels.evaluation.baselines import BASELINES, BaselineResult, fit_baseline, together
from fewlabels.evaluation.metrics import standard_errors_ahead
from fewlabels.networks.classifier import Classifier
from fewlabels.runs.run_folder import open_run
from fewlabels.training.device import choose
from fewlabels.workflows.adapting import Seen, adapt, keep_mirrored
from fewlabels.workflows.candidates import added_up
from fewlabels.workflows.fit import fit, resume
from fewlabels.workflows.judging import judge_by
from fewlabels.workflows.methods import methods, train
from fewlabels.workflows.model import BaselineModel, Model, load_model, save_model
from fewlabels.workflows.pace import seconds_a_step, throwaway
from fewlabels.workflows.phases import Context, LabelledImages
from fewlabels.workflows.plan import Plan
from fewlabels.workflows.predict import predict_run
from fewlabels.workflows.recipes import recipes
from fewlabels.workflows.settings import load_settings
from fewlabels.workflows.views import make_views, run_settings

SMALL = [
    "network.widths=[64, 32]",
    "run.precision=32",
    "transfer.strategies=['full']",
    "joint_training.batch_size=64",
    "unlabelled.labelled_batch_size=32",
]


def part(labels: list[int]) -> LabelledImages:
    images = np.zeros((len(labels), 1, 2, 2), dtype=np.uint8)
    return LabelledImages(images, np.array(labels, dtype=np.int64))


def run(out: Path, source: str, budget: float, *more: str, recipe: str = "auto") -> dict[str, Any]:
    chosen = {"source": source}
    if Path(source, "labels.csv").is_file():
        chosen["labels"] = str(Path(source, "labels.csv"))
    settings = load_settings(recipe, assignments=[*SMALL, *more], flags={"data": chosen})
    if recipe == "auto":
        settings = replace(settings, auto=replace(settings.auto, time_budget=budget))
    return fit(settings, out)


def written(folder: Path, labels: list[int | None]) -> Path:
    """Digits as files, and a label file that knows some of them."""
    data = digits()
    folder.mkdir()
    lines = ["image,label"]
    used: set[int] = set()
    for number, label in enumerate(labels):
        match = range(len(data)) if label is None else np.flatnonzero(data.labels == label)
        position = next(int(p) for p in match if int(p) not in used)
        used.add(position)
        Image.fromarray(data.images[position, 0]).save(folder / f"{number:03d}.png")
        if label is not None:
            lines.append(f"{number:03d}.png,{label}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_enough_labels_are_judged_by_the_validation_part() -> None:
    judging = judge_by(part([0, 1] * 15), part([0, 1] * 5), seed=0)
    assert judging.how == "validation"
    assert judging.judged.tolist() == list(range(30, 40))


def test_few_labels_take_turns_and_each_is_judged_once() -> None:
    judging = judge_by(part([0, 1, 2] * 4), part([0, 1, 2]), seed=0)
    assert judging.how == "cross-validation"
    assert sorted(judging.judged.tolist()) == list(range(15))
    for learnt, judged in judging.turns:
        assert not set(learnt.tolist()) & set(judged.tolist())
        assert set(judging.labelled.labels[learnt]) == {0, 1, 2}
    assert len(judge_by(part([0, 0, 1, 1]), part([]), seed=0).turns) == 2


def test_one_label_in_every_class_judges_nothing() -> None:
    for labels in ([0, 1, 2], [0, 0, 1, 2, 3], [0, 0, 0, 1]):
        judging = judge_by(part(labels), part([]), seed=0)
        assert (judging.how, judging.turns, len(judging.judged)) == ("nothing", (), 0)


def test_the_only_label_of_a_class_is_always_learnt_from() -> None:
    judging = judge_by(part([0, 1] * 6 + [2]), part([]), seed=0)
    assert judging.how == "cross-validation"
    assert sorted(judging.judged.tolist()) == list(range(12))
    for learnt, judged in judging.turns:
        assert 12 in learnt
        assert not set(learnt.tolist()) & set(judged.tolist())


def test_pseudo_labels_of_all_turns_are_judged_together() -> None:
    first = [{"guessed": 5, "used": 3, "judged": 2, "right": 1}]
    second = [{"guessed": 7, "used": 6, "judged": 4, "right": 4}]
    assert added_up([first, second]) == [{"guessed": 7, "used": 6, "judged": 6, "right": 5}]
    assert added_up([None, None]) is None


def outcomes(right: int, wrong: int) -> np.ndarray:
    return np.array([True] * right + [False] * wrong)


def test_grey_images_are_mirrored_only_where_enough_show_that_nothing_is_lost() -> None:
    assert keep_mirrored(outcomes(45, 15), outcomes(45, 15), colour=False)
    assert not keep_mirrored(outcomes(45, 15), outcomes(35, 25), colour=False)
    # Too few to tell, and a network that knows nothing: nothing lost, nothing shown.
    assert not keep_mirrored(outcomes(30, 10), outcomes(30, 10), colour=False)
    assert not keep_mirrored(outcomes(10, 90), outcomes(10, 90), colour=False)


def test_photographs_are_mirrored_unless_something_is_clearly_lost() -> None:
    assert keep_mirrored(outcomes(5, 5), outcomes(5, 5), colour=True)
    assert keep_mirrored(outcomes(6, 4), outcomes(5, 5), colour=True)
    assert not keep_mirrored(outcomes(60, 40), outcomes(40, 60), colour=True)


def test_baselines_of_all_turns_are_added_up() -> None:
    def result(right: int, n: int) -> BaselineResult:
        return BaselineResult(
            name="svm", accuracy=right / n, num_correct=right, n=n, num_labels=n, seconds=1.0
        )

    whole = together([result(3, 4), result(1, 6)])
    assert (whole.num_correct, whole.n, whole.accuracy, whole.seconds) == (4, 10, 0.4, 2.0)


def test_lead_is_counted_in_standard_errors_of_the_pairs() -> None:
    one = np.array([True] * 9 + [False] * 3 + [True] * 20)
    other = np.array([False] * 9 + [True] * 3 + [True] * 20)
    assert standard_errors_ahead(one, other) == pytest.approx(6 / np.sqrt(12))
    assert standard_errors_ahead(other, one) == -standard_errors_ahead(one, other)
    assert standard_errors_ahead(one, one) == 0


def test_plan_decides_once_and_its_clock_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    plan = Plan(file, budget=10, started=time.perf_counter())
    time.sleep(0.05)
    assert plan.remember("epochs", lambda: 7) == 7
    plan.tell("Something.")
    again = Plan(file, budget=10, started=time.perf_counter())
    assert again.elapsed >= 0.05
    assert again.left < 10
    assert again.remember("epochs", lambda: 8) == 7
    again.tell("Something.")
    assert again.said == ["Something."]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("few")
    return run(out, "digits", 25, "data.num_labels=60")


def test_auto_compares_all_kinds_and_stays_inside_the_budget(few: dict[str, Any]) -> None:
    kinds = {row["kind"] for row in few["comparison"]}
    assert kinds == {"baseline", "scratch", "transfer", "semisupervised"}
    assert {row["n"] for row in few["comparison"]} == {60}
    assert few["judged_by"] == "cross-validation"
    assert few["seconds"] < 25
    chosen = next(row for row in few["comparison"] if row["name"] == few["chosen"])
    assert few["val_accuracy"] == chosen["val_accuracy"]


def test_auto_says_what_it_decided_and_why(few: dict[str, Any]) -> None:
    said = " ".join(few["decisions"])
    for words in ("cross-validation in 3 turns", "equally common", "mirrored", "Chosen: "):
        assert words in said
    page = (Path(few["run"]) / "report.html").read_text()
    assert "cross-validation" in page
    assert "What unlabelled images were taken for" in page
    assert "unlabelled images used" in page  # the curve


def test_predictions_are_averaged_over_views_as_the_run_decided(
    few: dict[str, Any], tmp_path: Path
) -> None:
    folder = open_run(Path(few["run"]))
    assert folder.read_config()["augment"]["flip"] == "auto"
    assert run_settings(folder).augment.flip is False  # mirrored digits are others
    image = tmp_path / "one.png"
    Image.fromarray(digits().images[0, 0]).save(image)
    written = {}
    for views in ("auto", "augmented", "single"):
        written[views] = tmp_path / f"{views}.csv"
        predict_run(folder.path, str(image), written[views], views)
    text = {views: path.read_text() for views, path in written.items()}
    assert text["augmented"] != text["single"]
    baseline = isinstance(load_model(folder.model), BaselineModel)
    assert text["auto"] == text["single" if baseline else "augmented"]


def test_baselines_see_images_as_they_are() -> None:
    settings, data = load_settings("auto"), digits()
    fitted = fit_baseline(
        "nearest_neighbour", data.images[:50], data.labels[:50], data.images, seed=0
    )
    model = BaselineModel(fitted, (1, 8, 8), data.class_names)
    assert make_views(settings, model) is None
    assert make_views(settings, model, "augmented") is not None


@pytest.mark.parametrize(
    ("network", "channels", "seen"),
    [("mlp", 1, True), ("wide_resnet", 1, False), ("wide_resnet", 3, True), ("mlp", 3, True)],
)
def test_convolutional_networks_need_views_for_mirroring_alone(
    network: str, channels: int, seen: bool
) -> None:
    settings = load_settings("auto", assignments=[f"network.name={network}"])
    shape = (channels, 16, 16)
    encoder = settings.network.build(shape, torch.Generator())
    classifier = Classifier(encoder, 2, torch.Generator())
    model = Model(classifier, settings.network, shape, ("a", "b"))
    assert (make_views(settings, model) is not None) == seen
    assert make_views(settings, model, "augmented") is not None
    assert make_views(settings, model, "single") is None


def test_finished_auto_run_resumes_to_the_same_model(few: dict[str, Any], tmp_path: Path) -> None:
    folder = Path(few["run"])
    before = (folder / "model" / "weights.safetensors").read_bytes()
    (folder / "result.json").unlink()
    again = resume(folder)
    assert again["chosen"] == few["chosen"]
    assert again["comparison"] == few["comparison"]
    assert (folder / "model" / "weights.safetensors").read_bytes() == before


def test_too_short_a_budget_ships_the_best_baseline(tmp_path: Path) -> None:
    result = run(tmp_path, "digits", 3, "data.num_labels=60")
    assert all(row["kind"] == "baseline" for row in result["comparison"])
    best = max(result["comparison"], key=lambda row: row["val_accuracy"])
    assert result["chosen"] == best["name"]
    assert any("too short to train a network" in line for line in result["decisions"])
    model = load_model(Path(result["run"]) / "model")
    assert isinstance(model, BaselineModel)
    images = written(tmp_path / "new", [3, 4, 5])
    predicted = predict_run(Path(result["run"]), str(images), tmp_path / "out.csv", "single")
    assert sum(predicted["predicted"].values()) == 3


@pytest.mark.parametrize("name", ["logistic_regression_pca", "svm_pixels", "nearest_neighbour"])
def test_shipped_baseline_predicts_as_before(name: str, tmp_path: Path) -> None:
    data = digits()
    fitted = fit_baseline(name, data.images[:80], data.labels[:80], data.images, seed=0)
    model = BaselineModel(fitted, (1, 8, 8), data.class_names)
    save_model(tmp_path / "model", model, {})
    compute = choose("cpu", "32")
    shown = data.images[100:300]
    before = model.predict(shown, compute)
    after = load_model(tmp_path / "model").predict(shown, compute)
    np.testing.assert_allclose(after, before, atol=1e-6)
    np.testing.assert_allclose(before.sum(axis=1), 1)
    assert (before.argmax(axis=1) == fitted.predict(shown)).all()


@pytest.mark.filterwarnings("ignore:Batch norm over a batch")
def test_one_label_a_class_trains_without_a_number(tmp_path: Path) -> None:
    images = written(tmp_path / "images", [0, 1, 2, *[None] * 60])
    result = run(tmp_path / "runs", str(images), 18)
    assert result["judged_by"] == "nothing"
    assert result["val_accuracy"] is None
    assert result["comparison"] == []
    assert result["chosen"] == "fixmatch"
    page = (Path(result["run"]) / "report.html").read_text()
    assert "nobody knows how good this is" in page


@pytest.mark.filterwarnings("ignore:Batch norm over a batch")
def test_one_label_a_class_and_no_time_ships_the_nearest_image(tmp_path: Path) -> None:
    images = written(tmp_path / "images", [0, 1, 2, *[None] * 60])
    result = run(tmp_path / "runs", str(images), 0.5)
    assert result["chosen"] == "nearest_neighbour"
    assert result["val_accuracy"] is None
    assert any("nearest labelled image" in line for line in result["decisions"])
    assert "nobody knows how good this is" in (Path(result["run"]) / "report.html").read_text()


def copied(few: dict[str, Any], to: Path, *forgotten: str, **facts: Any) -> Path:
    """A finished run, unfinished again: other facts in its plan, and some phases forgotten."""
    folder = Path(shutil.copytree(few["run"], to))
    (folder / "result.json").unlink()
    plan = folder / "checkpoints" / "plan.json"
    saved = json.loads(plan.read_text())
    saved["facts"] |= {name.replace("_", " "): value for name, value in facts.items()}
    plan.write_text(json.dumps(saved))
    for name in forgotten:
        for file in (folder / "checkpoints").glob(f"{name}*.safetensors"):
            file.unlink()
    return folder


def test_without_time_for_all_labels_the_network_of_the_trial_is_shipped(
    few: dict[str, Any], tmp_path: Path
) -> None:
    if few["chosen"] in BASELINES:
        pytest.skip("a baseline was best in this run")
    folder = copied(few, tmp_path / "short", "final", steps_of_final_training=5)
    result = resume(folder)
    assert result["chosen"] == few["chosen"]
    assert any("the network of the trial is taken" in line for line in result["decisions"])
    assert "final" not in {phase["name"] for phase in result["phases"]}
    assert result["val_accuracy"] == few["val_accuracy"]


@pytest.mark.filterwarnings("ignore:Batch norm over a batch")
def test_images_that_do_not_fit_in_the_time_are_drawn_for_pretraining(
    few: dict[str, Any], tmp_path: Path
) -> None:
    folder = copied(few, tmp_path / "drawn", "", images_of_pretraining=500)
    config = folder / "config.toml"
    config.write_text(re.sub(r"batch_size = 512", "batch_size = 8", config.read_text()))
    result = resume(folder)
    assert any("pretrain on 500 of 1,297 images, once" in line for line in result["decisions"])


def test_a_killed_run_decides_as_before_and_finishes(tmp_path: Path) -> None:
    settings = [part for one in SMALL for part in ("--set", one)]
    command = ["fit", "digits", "--num-labels", "60", "--time-budget", "20", *settings]
    process = subprocess.Popen(
        [sys.executable, "-m", "fewlabels", *command, "--out", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Transfer" in line or "together" in line:
            break
    process.kill()
    process.wait()
    process.stderr.close()
    (folder,) = tmp_path.iterdir()
    before = json.loads((folder / "checkpoints" / "plan.json").read_text())
    assert before["facts"]
    result = resume(folder)
    after = json.loads((folder / "checkpoints" / "plan.json").read_text())
    assert {key: after["facts"][key] for key in before["facts"]} == before["facts"]
    assert result["decisions"][1 : 1 + len(before["said"])] == before["said"]
    assert (folder / "model" / "weights.safetensors").is_file()


def test_networks_that_learn_nothing_lose_to_a_baseline(tmp_path: Path) -> None:
    idle = [
        f"{phase}.optimiser.learning_rate=1e-9"
        for phase in ("training", "pretraining", "joint_training")
    ]
    result = run(tmp_path, "digits", 16, "data.num_labels=100", *idle)
    kinds = {row["name"]: row["kind"] for row in result["comparison"]}
    assert "scratch" in kinds.values()
    assert kinds[result["chosen"]] == "baseline"
    assert isinstance(load_model(Path(result["run"]) / "model"), BaselineModel)
    assert any("the best network" in line for line in result["decisions"])


def test_decisions_stand_in_the_settings_that_the_report_shows(few: dict[str, Any]) -> None:
    folder = open_run(Path(few["run"]))
    decided = tomllib.loads(folder.settings.read_text())
    assert decided["augment"]["flip"] is False
    assert decided["semisupervised"]["graph_start"] > 0
    asked = folder.read_config()
    assert (asked["augment"]["flip"], asked["semisupervised"]["graph_start"]) == ("auto", 0)
    assert "graph_start = 0.1" in folder.report.read_text()


@pytest.mark.parametrize(
    ("assignment", "section", "key", "value"),
    [
        ("semisupervised.alignment='none'", "semisupervised", "alignment", "none"),
        ("semisupervised.alignment=[0.7, 0.3]", "semisupervised", "alignment", (0.7, 0.3)),
        ("semisupervised.graph_start=0.0", "semisupervised", "graph_start", 0.0),
        ("unlabelled.pretrained=true", "unlabelled", "pretrained", True),
    ],
)
def test_what_is_asked_for_is_not_decided_again(
    assignment: str, section: str, key: str, value: Any
) -> None:
    settings = load_settings("auto", assignments=[assignment, "network.name=wide_resnet"])
    seen = Seen((3, 32, 32), np.array([5, 30] if key == "graph_start" else [30, 90]), 1_000)
    assert getattr(getattr(adapt(settings, seen, lambda _: None), section), key) == value


def test_augmentation_that_is_off_mirrors_nothing(tmp_path: Path) -> None:
    result = run(tmp_path, "digits", 16, "data.num_labels=60", "augment.name=none")
    assert not any("mirrored" in line for line in result["decisions"])
    assert result["flip"] == "auto"


def test_objectives_that_do_not_fit_are_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for recipe, words in (("ladder", "batch norm"), ("auto", "logits")):
        more = ["network.name=lenet"] if recipe == "ladder" else ["semisupervised.name=ladder"]
        settings = load_settings(
            recipe, assignments=[*more, "run.precision=32"], flags={"data": {"source": "digits"}}
        )
        with pytest.raises(ConfigError, match=words):
            fit(settings, tmp_path / recipe)
        assert "Baselines" not in capsys.readouterr().err


def test_without_unlabelled_images_the_labels_do_alone(tmp_path: Path) -> None:
    images = written(tmp_path / "images", [0, 1] * 15)
    for recipe in ("auto", "fixmatch"):
        result = run(
            tmp_path / recipe,
            str(images),
            14,
            "split.shares='80/20/0'",
            "training.max_steps=50",
            recipe=recipe,
        )
        assert all(row["kind"] != "semisupervised" for row in result["comparison"])


def test_unbalanced_labels_give_the_shares_of_the_classes(tmp_path: Path) -> None:
    images = written(tmp_path / "images", [*[0] * 25, *[1] * 5, *[None] * 60])
    result = run(tmp_path / "runs", str(images), 16)
    assert any("as common as among the labels" in line for line in result["decisions"])


@pytest.mark.parametrize(
    ("image_shape", "asked", "network"),
    [
        ((1, 28, 28), [], "mlp"),
        ((3, 32, 32), [], "wide_resnet"),
        ((1, 128, 96), [], "wide_resnet"),
        ((3, 32, 32), ["network.name=mlp"], "mlp"),
        ((3, 32, 32), ["network.dropout=0.1"], "mlp"),
        ((1, 28, 28), ["network.name=lenet"], "lenet"),
    ],
)
def test_network_follows_the_images_unless_it_is_asked_for(
    image_shape: tuple[int, int, int], asked: list[str], network: str
) -> None:
    said: list[str] = []
    seen = Seen(image_shape, np.array([30, 30]), 1_000)
    settings = adapt(load_settings("auto", assignments=asked), seen, said.append)
    assert settings.network.name == network
    assert any(line.startswith("The network") for line in said) is not bool(asked)


@pytest.mark.parametrize(
    ("network", "labels", "pretrained"),
    [("mlp", 30, True), ("wide_resnet", 30, False), ("wide_resnet", 5, True)],
)
def test_convolutions_with_labels_enough_start_from_scratch(
    network: str, labels: int, pretrained: bool
) -> None:
    seen = Seen((3, 32, 32), np.array([labels, labels]), 1_000)
    settings = load_settings("auto", assignments=[f"network.name={network}"])
    assert adapt(settings, seen, lambda _: None).unlabelled.pretrained is pretrained


def test_time_budget_belongs_to_auto_alone(tmp_path: Path) -> None:
    settings = load_settings("scratch", flags={"auto": {"time_budget": 5.0}})
    with pytest.raises(ConfigError, match="--recipe auto"):
        fit(settings, tmp_path)


def test_recipes_are_explained() -> None:
    found = [recipe for recipe in recipes().values() if recipe.complete]
    assert len(found) >= 16
    for recipe in found:
        assert recipe.summary
        assert not recipe.summary.endswith(".")
        load_settings(recipe.name)
    json.dumps([recipe.values for recipe in found])


def test_timing_lets_every_unlabelled_image_count() -> None:
    """Before anything is learnt hardly any is sure, and steps that leave images out are short."""
    settings = load_settings("fixmatch", assignments=[*SMALL, "semisupervised.weight=2"])
    source = digits()
    labels = source.labels[:100]
    context = throwaway(Context.of(settings))
    (method,) = [one for one in methods(settings, 1) if one.kind == "semisupervised"]
    trained = train(
        context,
        method,
        "timing",
        LabelledImages(source.images[:100], labels),
        None,
        10,
        pool=Selection(source.images, np.arange(len(source.images))),
        encoder_state=dict,
    )
    assert [row["used_share"] for row in trained.phase.history] == [1.0, 1.0]
    assert seconds_a_step(trained.phase) > 0
