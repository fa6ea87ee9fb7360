"""Pretraining runs: probes, artefacts, pictures, and classifiers made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.linalg import sqrtm
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from fewlabels.cli.main import run
from fewlabels.data.builtin import digits
from fewlabels.evaluation.probe import probe_features
from fewlabels.evaluation.sample_quality import frechet_distance, judge_samples, precision_recall
from fewlabels.plots.sheet import image_sheet
from fewlabels.workflows.artefact import load_artefact
from fewlabels.workflows.phases import Context
from fewlabels.workflows.pretraining import check_pretext
from fewlabels.workflows.settings import load_settings

QUICK = ("--set", "pretraining.epochs=3", "--set", "network.widths=[64,32]", "--num-labels", "60")


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run([*arguments]) == 1
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def variational(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrained(tmp_path_factory.mktemp("runs"), "variational_autoencoder")


def pretrained(out: Path, objective: str, *rest: str) -> Path:
    command = ["pretrain", "digits", "--objective", objective, *QUICK, *rest, "--out", str(out)]
    assert run(command) == 0
    (path,) = out.iterdir()
    return path


def width_of(picture: Path) -> int:
    with Image.open(picture) as image:
        return image.width


# Figures


def test_probe_is_scikit_learns() -> None:
    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = pixels[:200], labels[:200]
    found = probe_features(pixels, labels, seed=3)
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    right = 0
    for learnt, judged in folds.split(pixels, labels):
        scaler = StandardScaler().fit(pixels[learnt])
        model = LogisticRegression(C=0.1, max_iter=300)
        model.fit(scaler.transform(pixels[learnt]), labels[learnt])
        right += int((model.predict(scaler.transform(pixels[judged])) == labels[judged]).sum())
    assert found["probe_accuracy"] == pytest.approx(right / 200)
    near = 0
    directions = pixels / np.linalg.norm(pixels, axis=1, keepdims=True)
    for learnt, judged in folds.split(pixels, labels):
        similar = directions[judged] @ directions[learnt].T
        nearest = labels[learnt][np.argsort(-similar, axis=1)[:, :5]]
        votes = np.array([np.bincount(row, minlength=10).argmax() for row in nearest])
        near += int((votes == labels[judged]).sum())
    assert found["neighbours_accuracy"] == pytest.approx(near / 200)


def test_probe_of_too_few_labels_is_nothing() -> None:
    assert probe_features(np.eye(3), np.array([0, 1, 2]), 0) == {}
    assert probe_features(np.eye(3), np.array([1, 1, 1]), 0) == {}


def test_frechet_distance_by_scipy_and_by_hand() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5))
    made = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)) + 1
    first, second = np.cov(real.T), np.cov(made.T)
    gap = real.mean(axis=0) - made.mean(axis=0)
    expected = gap @ gap + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(real, made) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)
    # Of one normal with another one, three away and half as wide: 3² + (1 - 1/2)².
    one = np.array([[-1.0], [1.0]]) / np.sqrt(2)
    assert frechet_distance(one, one / 2 + 3) == pytest.approx(9.25)


def test_precision_and_recall_by_hand() -> None:
    """Real at 0, 1, 2, …, 9, made at 0.5 (among them), 100 and 101 (not)."""
    real = np.arange(10.0).reshape(-1, 1)
    made = np.array([[0.5], [100.0], [101.0]])
    assert precision_recall(real, made, neighbours=1) == (pytest.approx(1 / 3), 1.0)
    # The one at 100 has its next one 99.4 away, which reaches all real ones but 0; 0.5 and 0.6 have
    # theirs 0.1 away, which reaches none.
    near = np.array([[0.5], [0.6], [100.0]])
    assert precision_recall(real, near, neighbours=1) == (pytest.approx(2 / 3), 0.9)


def test_real_against_real_is_the_floor() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(1000, 4))
    probabilities = np.full((500, 2), [0.95, 0.05])
    quality = judge_samples(real, rng.normal(size=(500, 4)), probabilities)
    assert quality.distance == pytest.approx(quality.floor, abs=0.05)
    assert quality.precision > 0.9
    assert quality.recall > 0.9
    assert quality.sure == 1.0
    assert quality.shares == (1.0, 0.0)
    far = judge_samples(real, rng.normal(size=(500, 4)) + 50, probabilities)
    assert far.precision == 0
    assert far.distance > 1000


def test_sheets_hold_every_image_in_its_place(tmp_path: Path) -> None:
    images = np.zeros((5, 3, 4, 6), dtype=np.float32)
    images[:, 0] = np.linspace(0.2, 1, 5).reshape(-1, 1, 1)
    path = tmp_path / "sheet.png"
    path.write_bytes(image_sheet(images, 3))
    with Image.open(path) as image:
        pixels = np.asarray(image)
    scale = 56 // 6
    assert pixels.shape == (2 * 4 * scale + 2, 3 * 6 * scale + 2 * 2, 3)
    for number in range(5):
        row, column = divmod(number, 3)
        spot = pixels[row * (4 * scale + 2) + 5, column * (6 * scale + 2) + 5]
        assert spot.tolist() == [round(255 * float(images[number, 0, 0, 0])), 0, 0]


# Runs


def test_pretraining_leaves_an_encoder_and_figures(variational: Path) -> None:
    result = json.loads((variational / "result.json").read_text())
    assert result["task"] == "pretrain"
    assert 0.1 < result["probe"]["probe_accuracy"] <= 1
    assert result["probe"]["num_labels"] == 60
    assert result["abilities"] == ["generate", "reconstruct", "interpolate"]
    page = (variational / "report.html").read_text()
    for words in ("linear probe", "What it draws", "Against PCA", "epoch 1"):
        assert words.lower() in page.lower()
    assert {path.name for path in (variational / "samples").iterdir()} >= {"0001.png", "0003.png"}
    artefact = load_artefact(variational)
    assert artefact.name == "variational_autoencoder"
    assert not list(variational.rglob("*.pt")) + list(variational.rglob("*.pkl"))


def test_pictures(variational: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, pixels in zip(paths, load_digits().images, strict=False):
        Image.fromarray(np.uint8(pixels * 15)).save(path)
    output = tmp_path / "out.png"
    found = run_json(capsys, "generate", str(variational), "--count", "10", "-o", str(output))
    assert found["count"] == 10
    first = output.read_bytes()
    assert run(["generate", str(variational), "--count", "10", "-o", str(output)]) == 0
    assert output.read_bytes() == first
    found = run_json(capsys, "reconstruct", str(variational), str(tmp_path), "-o", str(output))
    assert 0 < found["error"] < 0.2
    strip = ("interpolate", str(variational), *map(str, paths), "-o", str(output))
    assert run_json(capsys, *strip, "--steps", "4")["steps"] == 4
    assert width_of(output) == 6 * (56 + 2) - 2


def test_what_a_run_cannot_do_is_said(
    variational: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "out.png")
    error = error_of(capsys, "generate", str(variational), "--show", "steps", "-o", output)
    assert "diffusion" in error
    error = error_of(capsys, "generate", str(variational), "--show", "grid", "-o", output)
    assert "pretext.latent=2" in error
    error = error_of(capsys, "generate", str(variational), "--class", "3", "-o", output)
    assert "--classifier RUN" in error
    contrastive = pretrained(tmp_path / "contrastive", "contrastive")
    error = error_of(capsys, "generate", str(contrastive), "-o", output)
    assert "variational_autoencoder" in error
    assert "contrastive, which cannot make new images" in error
    error = error_of(capsys, "reconstruct", str(contrastive), str(tmp_path), "-o", output)
    assert "denoising_autoencoder" in error
    error = error_of(capsys, "predict", str(contrastive), str(tmp_path), "--output", output)
    assert "--encoder" in error
    error = error_of(capsys, "generate", str(variational), "-o", str(tmp_path / "no" / "a.png"))
    assert "does not exist" in error
    assert not Path(output).exists()


@pytest.mark.parametrize(
    ("objective", "settings", "words"),
    [
        ("contrastive", ["--set", "augment.name=none"], "without augmentation"),
        ("contrastive", ["--set", "pretraining.batch_size=1"], "pretraining.batch_size"),
        ("masked_autoencoder", ["--set", "pretext.mask=1"], "pretext.mask"),
        ("masked_autoencoder", ["--set", "pretext.patch=3"], "1, 2, 4 or auto"),
        ("diffusion", ["--set", "network.name=mlp"], "network.name=unet"),
        ("generative_adversarial", ["--set", "pretraining.patience=3"], "pretraining.patience"),
        ("variational", [], "variational_autoencoder"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(
    objective: str,
    settings: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["pretrain", "digits", "--objective", objective, *settings, "--out", str(tmp_path)]
    assert words in error_of(capsys, *command)
    assert not [*tmp_path.iterdir()]


def test_a_latent_that_may_copy_is_warned_of() -> None:
    images = digits().images
    for name, key in (("variational_autoencoder", "pretext"), ("autoencoder", "network")):
        settings = load_settings(name, assignments=[f"{key}.latent=64"])
        with pytest.warns(UserWarning, match="64 values and the latent 64: it may copy"):
            check_pretext(Context.of(settings), images)
    # What is damaged cannot be copied.
    check_pretext(Context.of(load_settings("default", assignments=["network.latent=64"])), images)


def test_collapsed_latents_are_named(tmp_path: Path) -> None:
    """A divergence that costs a thousand times too much is not worth paying."""
    settings = ("pretext.beta=1000", "pretraining.epochs=40")
    given = [part for one in settings for part in ("--set", one)]
    path = pretrained(tmp_path, "variational_autoencoder", *given)
    finding = json.loads((path / "result.json").read_text())["findings"][0]
    assert finding.startswith("Posterior collapse: only 0 of 20")
    assert finding.split(".")[0] in (path / "report.html").read_text()


# Classifiers made of them


def test_a_classifier_from_an_encoder(
    variational: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--recipe", "default", "--set", "training.epochs=20", "--num-labels", "60"]
    command = ["fit", "digits", *common, "--encoder", str(variational), "--out", str(tmp_path)]
    result = run_json(capsys, *command)
    names = [phase["name"] for phase in result["phases"]]
    assert "pretrain" not in names
    assert "transfer_frozen" in names
    # Frozen, the encoder's weights are those of the run.
    (path,) = tmp_path.iterdir()
    artefact = load_artefact(variational)
    kept = load_file(path / "checkpoints" / "transfer_frozen.safetensors")
    ours = artefact.objective.finished_encoder().state_dict()
    weight = "layers.0.0.weight"
    torch.testing.assert_close(kept[f"objective/classifier.encoder.{weight}"], ours[weight])
    error = error_of(capsys, *command, "--set", "network.widths=[5]")
    assert "--encoder" in error
    assert result["warnings"] == []
    error = error_of(capsys, "fit", "digits", "--encoder", str(path), "--out", str(tmp_path))
    assert "fewlabels pretrain DATA" in error


def test_images_without_any_label(tmp_path: Path) -> None:
    images = load_digits().images.astype(np.uint8) * 15
    np.savez(tmp_path / "digits.npz", images=images)
    out = tmp_path / "runs"
    command = ["pretrain", str(tmp_path / "digits.npz"), "--set", "pretraining.epochs=2"]
    assert run([*command, "--set", "network.widths=[32]", "--out", str(out)]) == 0
    (path,) = out.iterdir()
    result = json.loads((path / "result.json").read_text())
    assert result["probe"] == {"num_labels": 0}
    assert "two labels in each class" in (path / "report.html").read_text()


def test_an_interrupted_pretraining_goes_on(tmp_path: Path) -> None:
    """With its last checkpoint and its result taken away, it ends the same."""
    path = pretrained(tmp_path, "generative_adversarial", "--set", "run.precision=32")
    before = load_file(path / "pretext" / "weights.safetensors")
    for name in ("result.json", "report.html", "pretext/pretext.json"):
        (path / name).unlink()
    assert run(["resume", str(path)]) == 0
    after = load_file(path / "pretext" / "weights.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((path / "result.json").read_text())["task"] == "pretrain"


def test_objectives_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "objectives.svg"
    names = "autoencoder,contrastive,diffusion"
    result = run_json(
        capsys,
        *("compare", "digits", "--pretext", names, "--draws", "2", "--seconds", "1"),
        *("--num-labels", "60", "--set", "network.widths=[64,32]", "--set", "training.epochs=15"),
        *("--picture", str(picture)),
    )
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == {"scratch", "autoencoder", "contrastive"}
    assert "U-Net" in result["left_out"]["diffusion"]
    for name in ("autoencoder", "contrastive"):
        assert rows[name]["helps"] in ("yes", "no, it hurts", "not shown")
        assert len(rows[name]["accuracies"]) == 2
        assert 0 < rows[name]["probe"] <= 1
        assert rows[name]["memory"] is None or rows[name]["memory"] > 1e6
    assert "<svg" in picture.read_text()
    error = error_of(capsys, "compare", "digits", "--pretext", "contrastve")
    assert "'contrastive'" in error


def test_latent_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "widths.png"
    result = run_json(
        capsys,
        *("latent-size", "digits", "--widths", "2,8,16", "--picture", str(picture)),
        *("--set", "pretraining.epochs=30", "--set", "network.widths=[64]"),
    )
    errors = [row["error"] for row in result["rows"]]
    references = [row["pca_error"] for row in result["rows"]]
    assert [row["width"] for row in result["rows"]] == [2, 8, 16]
    assert errors == sorted(errors, reverse=True)
    assert references == sorted(references, reverse=True)
    assert width_of(picture) > 400
    error = error_of(capsys, "latent-size", "digits", "--widths", "2,x")
    assert "--widths 2,8,32" in error
    error = error_of(capsys, "latent-size", "digits", "--set", "network.name=lenet")
    assert "network.name = mlp" in error


@pytest.mark.parametrize("objective", ["diffusion", "variational_autoencoder"])
def test_steps_and_grids(
    objective: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--set", "pretraining.epochs=1", "--num-labels", "60", "--out", str(tmp_path)]
    if objective == "diffusion":
        rest = ["--set", "network.width=4", "--set", "network.depth=1"]
        rest += ["--set", "pretext.sampling_steps=12"]
        show, width = "steps", 10
    else:
        rest, show, width = ["--set", "pretext.latent=2"], "grid", 20
    assert run(["pretrain", "digits", "--objective", objective, *rest, *common]) == 0
    (path,) = tmp_path.iterdir()
    output = tmp_path / "picture.png"
    command = ["generate", str(path), "--show", show, "--count", "3", "-o", str(output)]
    assert run_json(capsys, *command)["shown"] == show
    assert width_of(output) == width * (56 + 2) - 2


def test_a_classifier_judges_and_chooses(
    variational: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = run_json(
        capsys,
        *("fit", "digits", "--recipe", "scratch", "--set", "training.epochs=30"),
        *("--set", "network.widths=[32]", "--out", str(tmp_path / "runs")),
    )
    output = str(tmp_path / "out.png")
    judged = ["generate", str(variational), "--classifier", fitted["run"], "-o", output]
    quality = run_json(capsys, *judged)["quality"]
    assert sum(quality["shares"].values()) == pytest.approx(1)
    assert 0 <= quality["sure"] <= 1
    assert quality["distance"] > quality["floor"] > 0
    common = max(quality["shares"], key=lambda name: quality["shares"][name])
    found = run_json(capsys, *judged, "--class", common, "--count", "5")
    assert found["tried"] >= 5
    assert "'zero'" in error_of(capsys, *judged, "--class", "zero")


def test_an_encoder_that_has_seen_test_images_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images without an official test part, so that another seed seals other ones."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * 15).astype(np.uint8)
    source = str(tmp_path / "digits.npz")
    np.savez(source, images=pixels, labels=np.where(np.arange(len(labels)) < 200, labels, -1))
    out = ("--out", str(tmp_path / "runs"))
    quick = ("--set", "pretraining.epochs=1", "--set", "network.widths=[32]")
    encoder = run_json(capsys, "pretrain", source, *quick, *out)["run"]
    command = ["fit", source, "--recipe", "default", "--encoder", encoder, *out]
    command += ["--set", "training.epochs=3"]
    assert run_json(capsys, *command)["warnings"] == []
    result = run_json(capsys, *command, "--set", "split.seed=7")
    (warning,) = result["warnings"]
    assert "sealed test images, though without their labels" in warning
    assert warning in (Path(result["run"]) / "report.html").read_text()
