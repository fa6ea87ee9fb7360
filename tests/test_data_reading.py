"""Choosing the reader, wrong paths, and reading for prediction."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewlabels.data import READERS, load_for_prediction, load_images
from fewlabels.data.channels import match_channels
from fewlabels.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))


def _idx(count: int) -> bytes:
    pixels = np.arange(count * 16, dtype=np.uint8)
    return b"\0\0\x08\x03" + struct.pack(">3I", count, 4, 4) + pixels.tobytes()


def test_every_reader_is_a_module_of_its_name() -> None:
    folder = Path(sys.modules["fewlabels.data"].__path__[0])
    assert {name for name in READERS if (folder / f"{name}.py").is_file()} == set(READERS)


def test_missing_path_names_what_is_near(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match=r"There is no image set at .*picture\. Did you mean .*s\?"):
        load_images(tmp_path / "picture")
    with pytest.raises(DataError, match="Check the path"):
        load_images(tmp_path / "qqq" / "zzz")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a.png", "is a single image, no image set. Allowed: a folder"),
        ("a.zip", "is no image set. Unpack it first. Allowed"),
        ("a.txt", "is no image set. Allowed"),
        ("a", "is no image set. Allowed"),
        ("train-images-idx3-ubyte", "is no IDX file"),
    ],
)
def test_files_of_no_known_form(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(DataError, match=sentence):
        load_images(tmp_path / name)


def test_wrong_image_size(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="The image size"):
        load_images(tmp_path, image_size="big")


def test_parquet_beside_images_is_no_image_set(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "cat" / "1.png")
    (tmp_path / "labels.parquet").write_bytes(b"x")
    assert load_images(tmp_path).ids.tolist() == ["cat/1.png"]


def test_folder_for_prediction(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    Image.new("RGB", (40, 20), (255, 0, 0)).save(folder / "b.png")
    Image.new("L", (8, 8), 9).save(folder / "sub" / "a.png")
    (folder / "c.png").write_bytes(b"")
    data = load_for_prediction(folder, (1, 6, 5))
    assert data.images.shape == (2, 1, 6, 5)
    assert data.ids.tolist() == ["b.png", "sub/a.png"]
    assert data.images[:, 0, 0, 0].tolist() == [76, 9]  # 0.299 x 255 (ITU-R BT.601)
    assert [problem.where for problem in data.problems] == ["c.png"]
    assert load_for_prediction(folder, (3, 6, 5)).images[:, :, 0, 0].tolist() == [
        [255, 0, 0],
        [9, 9, 9],
    ]


def test_labels_for_evaluation(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 9).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("image,label\na.png,cat\n")
    data = load_for_prediction(tmp_path, (3, 4, 4), labels=tmp_path / "labels.csv")
    assert data.class_names == ("cat",)
    assert data.image_shape == (3, 4, 4)


def test_one_image_file(tmp_path: Path) -> None:
    Image.new("L", (8, 6), 9).save(tmp_path / "a.png")
    data = load_for_prediction(tmp_path / "a.png", (3, 4, 4))
    assert data.images.shape == (1, 3, 4, 4)
    assert (data.images == 9).all()
    assert data.ids.tolist() == ["a.png"]
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"The only image, a.png of .*, is no image of a known"):
        load_for_prediction(tmp_path / "a.png", (3, 4, 4))


def test_arrays_for_prediction_have_positions_as_ids(tmp_path: Path) -> None:
    (tmp_path / "some-file").write_bytes(_idx(12))
    data = load_for_prediction(tmp_path / "some-file", (1, 4, 4))
    assert data.ids.tolist() == [str(index) for index in range(12)]
    assert data.images.ravel().tolist() == list(range(12 * 16))
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "t10k-images-idx3-ubyte").write_bytes(_idx(2))
    (folder / "train-images-idx3-ubyte").write_bytes(_idx(1))
    data = load_for_prediction(folder, (3, 8, 8))
    assert data.ids.tolist() == ["0", "1", "2"]
    assert data.image_shape == (3, 8, 8)
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 5, 5, 3), np.uint8))
    assert load_for_prediction(tmp_path / "a.npz", (1, 5, 5)).ids.tolist() == ["0", "1"]


def test_luminance_is_that_of_pillow() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (3, 3, 20, 30), dtype=np.uint8)
    grey = match_channels(colour, 1)
    expected = [Image.fromarray(image.transpose(1, 2, 0)).convert("L") for image in colour]
    assert np.array_equal(grey[:, 0], np.stack([np.asarray(image) for image in expected]))
    floats = match_channels((colour / 255).astype(np.float32), 1)
    assert floats.dtype == np.float32
    assert np.abs(floats * 255 - grey).max() < 0.51
    assert match_channels(colour, 3) is colour
    assert np.array_equal(match_channels(grey, 3), np.concatenate([grey] * 3, axis=1))


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys, fewlabels.data; heavy = {'torch', 'PIL', 'pyarrow', 'sklearn', 'numpy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
