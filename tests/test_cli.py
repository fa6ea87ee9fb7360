"""The command line, in this process where that is enough and in its own where it matters."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from fewlabels.cli.main import app, run

QUICK = [
    "--set=pretraining.epochs=4",
    "--set=training.epochs=60",
    "--set=network.widths=[64]",
    "--set=transfer.strategies=['full']",
]


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert isinstance(value, dict)
    return value


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 real digits as PNG files: 80 in class folders, the rest in unlabelled/."""
    folder = tmp_path_factory.mktemp("images")
    digits = load_digits()
    for index in range(300):
        name = str(digits.target[index]) if index < 80 else "unlabelled"
        (folder / name).mkdir(exist_ok=True)
        pixels = np.uint8(digits.images[index] * 15)
        Image.fromarray(pixels).save(folder / name / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="module")
def finished(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    assert run(["fit", str(image_folder), "--recipe=default", *QUICK, "--out", str(out)]) == 0
    (path,) = out.iterdir()
    return path


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from fewlabels.cli.main import run; run(['--help']);"
        "heavy = {'torch', 'sklearn', 'pandas', 'matplotlib', 'pydantic', 'pyarrow', 'numpy'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "fit" in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import fewlabels

    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == fewlabels.__version__


def test_commands_have_at_most_ten_flags() -> None:
    """Besides --config and --set, through which the rest goes."""
    import typer

    for name, command in typer.main.get_command(app).commands.items():
        flags = {p.name for p in command.params if p.param_type_name == "option"}
        assert len(flags - {"config", "assignments", "help"}) <= 10, name


def test_fit_report_and_seal(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (finished / "report.html").is_file()
    seal = json.loads((finished / "seal.json").read_text())
    assert seal["openings"] == []
    result = run_json(capsys, "test", str(finished))
    assert 0 <= result["test_accuracy"] <= 1
    assert run(["report", str(finished)]) == 0


def test_fit_json_is_one_object(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_json(
        capsys,
        "fit",
        str(image_folder),
        "--recipe=default",
        *QUICK,
        "--open-test",
        "--out",
        str(tmp_path),
    )
    assert result["test_accuracy"] is not None
    assert Path(result["run"]).is_dir()


def test_predict_folder_and_single_image(
    finished: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "predictions.csv"
    assert run(["predict", str(finished), str(image_folder / "unlabelled"), "-o", str(output)]) == 0
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    files = sorted(path.name for path in (image_folder / "unlabelled").iterdir())
    assert [row["image"] for row in rows] == files
    names = [str(digit) for digit in range(10)]
    assert list(rows[0]) == ["image", "label", "probability", *names]
    for row in rows:
        shares = {name: float(row[name]) for name in names}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
        assert float(row["probability"]) == max(shares.values())
    for views in ("crops", "augmented"):
        other = tmp_path / f"{views}.csv"
        where = ["predict", str(finished), str(image_folder / "unlabelled"), "-o", str(other)]
        assert run([*where, "--views", views]) == 0
        with open(other, newline="") as file:
            averaged = list(csv.DictReader(file))
        assert averaged != rows  # the probabilities are others …
        same = [a["label"] == b["label"] for a, b in zip(averaged, rows, strict=True)]
        assert sum(same) > len(same) / 2  # … of the same images
    error = error_of(capsys, *where, "--views", "crop")
    assert "Did you mean 'crops'" in error
    one = image_folder / "unlabelled" / files[5]
    assert run(["predict", str(finished), str(one), "-o", str(output)]) == 0
    with open(output, newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["label"] == rows[5]["label"]
    for name in names:  # a product of one row may round differently from one of many
        assert float(row[name]) == pytest.approx(float(rows[5][name]), abs=1e-5)


def test_evaluate_on_other_images(
    finished: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_json(capsys, "evaluate", str(finished), str(image_folder))
    assert result["num_images"] == 80
    assert result["accuracy"] > 0.3


def test_inspect_writes_a_contact_sheet(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    result = run_json(capsys, "inspect", str(image_folder), "--sheet", str(sheet))
    assert result["contact_sheet"] == str(sheet)
    with Image.open(sheet) as image:
        assert image.size[0] > 50


def test_compare_prints_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "digits", "--recipe=digits", "--num-labels=60", "--draws=2", *QUICK]
    assert run(arguments) == 0
    assert "scratch" in capsys.readouterr().out


def test_demo_runs_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", *QUICK, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "transfer_full" in printed
    assert "report.html" in printed


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run(list(arguments)) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    error = captured.err.splitlines()[-1]
    assert error.startswith("Error: ")
    return error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--recipe=defalt"], ["recipe", "'defalt'", "default"]),
        (["--set=network.name=mpl"], ["network", "mlp"]),
        (["--set=netwrok.name=mlp"], ["netwrok", "network"]),
        (["--set=network.wdths=[3]"], ["wdths", "widths"]),
        (["--set=network.latent=0"], ["network.latent", "0"]),
        (["--set=network.widths=wide"], ["network.widths", "wide"]),
        (["--set=training.epochs=many"], ["training.epochs", "many"]),
        (["--set=training.optimiser.name=adan"], ["adan", "adam"]),
        (["--set=transfer.strategies=['frozne']"], ["frozne", "frozen"]),
        (["--set=epochs"], ["epochs", "a.b=value"]),
        (["--set=augment.name=strnog"], ["strnog", "strong"]),
        (["--config=missing.toml"], ["missing.toml"]),
        (["--num-labels=5000"], ["5000", "1297"]),
        (["--num-labels=300", "--split=200/200/200"], ["200", "300"]),
        (["--split=60/40"], ["split.shares", "60/40"]),
    ],
)
def test_wrong_settings_are_one_sentence_and_leave_nothing(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    error = error_of(capsys, "fit", "digits", *arguments, "--out", str(out))
    assert all(word in error for word in words), error
    assert not out.exists()


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "digits", "--no-such-flag"]) == 2
    assert "--no-such-flag" in capsys.readouterr().err


def test_missing_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("test", "report", "resume"):
        assert "There is no run" in error_of(capsys, command, str(tmp_path / "nothing"))


def test_run_of_another_version(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old").mkdir()
    text = (finished / "config.toml").read_text().replace("run_format = 1", "run_format = 99")
    (tmp_path / "old" / "config.toml").write_text(text)
    assert "another version" in error_of(capsys, "resume", str(tmp_path / "old"))


def test_pickle_as_model_is_refused(
    finished: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pickle
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "model" / "weights.safetensors").write_bytes(pickle.dumps({"a": 1}))
    output = tmp_path / "predictions.csv"
    error = error_of(capsys, "predict", str(copy), str(image_folder), "-o", str(output))
    assert "cannot be read" in error
    assert not output.exists()


def test_runs_folder_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    out.write_text("in the way")
    error = error_of(
        capsys, "fit", "digits", "--num-labels=60", "--recipe=default", *QUICK, "--out", str(out)
    )
    assert "Cannot write" in error
    assert out.read_text() == "in the way"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting needs the administrator")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_is_one_sentence_and_can_be_resumed(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", "digits", "--recipe=digits", "--num-labels=60", *QUICK]
    wide = ["--set=network.widths=[512, 256]", "--out", str(small_disk)]
    error = error_of(capsys, *arguments, *wide)
    assert "the disk is full" in error
    assert not list(small_disk.rglob(".*.*"))  # no temporary file stays


def test_read_only_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting needs the administrator")
    try:
        arguments = [
            "fit",
            "digits",
            "--num-labels=60",
            "--recipe=default",
            *QUICK,
            "--out",
            str(folder / "runs"),
        ]
        assert "read-only" in error_of(capsys, *arguments)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_network_shows_what_it_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawing = tmp_path / "lenet.svg"
    result = run_json(capsys, "network", "lenet", "--image", "1x28x28", "--drawing", str(drawing))
    assert result["total"]["num_parameters"] == 61_706
    assert result["stages"][0]["output_shape"] == [6, 14, 14]
    assert "<svg" in drawing.read_text()
    assert run(["network", "resnet", "--image", "3x32x32", "--set", "network.depth=56"]) == 0
    printed = capsys.readouterr().out
    assert "layer3" in printed
    assert "855,770" in printed  # 0.85 M in the paper
    assert "whole image" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnt"], ["network", "'resnt'", "resnet"]),
        (["lenet", "--image=28x28"], ["28x28", "3x32x32"]),
        (["lenet", "--image=1x0x28"], ["1x0x28"]),
        (["lenet", "--image=1x3x3"], ["at least 4 × 4", "3 × 3"]),
        (["alexnet", "--image=3x50x50", "--set=network.variant=classic"], ["63 × 63"]),
        (["lenet", "--set=network.depth=3"], ["depth", "activation"]),
        (["lenet", "--set=training.epochs=3"], ["training", "network.depth=50"]),
        (["lenet", "--drawing=lenet.doc"], ["lenet.doc", ".svg"]),
        (["lenet", "--drawing=missing/lenet.svg"], ["missing/lenet.svg", "folder"]),
        (["resnet", "--weights=hub"], ["resnet", "torchvision:resnet18"]),
        (["lenet", "--set=network.weights=missing.pth"], ["missing.pth"]),
        (["timm:resnet10t", "--set=network.weights=missing.pth"], ["missing.pth"]),
        (["timm:resnet18.foo"], ["'foo'", "a1_in1k"]),
        (["conv_lstm", "--set=network.widths=[]"], ["widths"]),
        (["lenet", "--set=network=5"], ["section", "network.depth=50"]),
        (["mlp", "--image=3x100000x100000"], ["4,096"]),
    ],
)
def test_networks_that_cannot_be_shown(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(capsys, "network", *arguments)
    assert all(word in error for word in words), error


def test_network_with_its_decoder(capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"--set=network.{one}" for one in ("width=64", "depth=4", "norm=none")]
    result = run_json(capsys, "network", "unet", "--image=1x64x64", "--decoder", *settings)
    down_and_up = [stage for stage in result["stages"] if stage["name"] != "head"]
    # The paper's, but with one map for the image in place of two for two classes.
    assert sum(stage["num_parameters"] for stage in down_and_up) == 31_030_658 - 65
    assert run(["network", "wide_resnet", "--decoder"]) == 0
    assert "to_pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["network.name=lenet", "network.weights=missing.pth"], ["missing.pth"]),
        (["network.name=segnet", "network.widths=[8,8,8,8]"], ["at least 16 × 16", "8 × 8"]),
        (["network.name=timm:resnet118"], ["resnet118", "resnet18"]),
    ],
)
def test_networks_are_refused_before_anything_takes_time(
    settings: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [part for one in settings for part in ("--set", one)]
    error = error_of(capsys, "fit", "digits", *given, "--out", str(tmp_path))
    assert all(word in error for word in words), error
    assert "Baselines" not in error
    assert not [*tmp_path.iterdir()]


def test_warnings_are_a_sentence(tmp_path: Path) -> None:
    """A real process: within pytest warnings are errors."""
    import subprocess
    import sys

    settings = ("training.batch_size=4", "network.norm=batch", "training.max_steps=5")
    command = [sys.executable, "-m", "fewlabels", "fit", "digits", "--recipe", "scratch"]
    command += [part for one in settings for part in ("--set", one)]
    done = subprocess.run(
        [*command, "--num-labels", "60", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if "Batch norm over a batch of 4" in line]
    assert len(lines) == 1
    assert lines[0].startswith("Warning: ")
    assert "norms.py" not in done.stderr
