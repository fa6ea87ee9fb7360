"""Image sets that come by name: digits, and MNIST with and without a network."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fewlabels.data import builtin, load_for_prediction, load_images
from fewlabels.data.image_set import Part
from fewlabels.errors import DataError, DownloadError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache"


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine, and the folder that it shows."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_digits() -> None:
    data = load_images("digits")
    expected = load_digits()
    assert data.images.shape == (1797, 1, 8, 8)
    assert data.images.dtype == np.uint8
    assert np.abs(data.images[:, 0] / 255 * 16 - expected.images).max() <= 0.5 / 255 * 16
    assert data.labels.tolist() == expected.target.tolist()
    assert data.class_names == tuple("0123456789")
    assert (data.parts[:-500] == Part.POOL).all()
    assert (data.parts[-500:] == Part.TEST).all()


def test_a_path_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        load_images("digits")


def test_names_take_an_image_size() -> None:
    assert load_images("digits", image_size=16).image_shape == (1, 16, 16)
    assert load_for_prediction("digits", (3, 10, 12)).image_shape == (3, 10, 12)


def test_no_network_says_what_would_have_been_fetched(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.delenv("FEWLABELS_DATA", raising=False)
    with pytest.raises(DownloadError) as caught:
        builtin.mnist(mirrors=("http://127.0.0.1:9/a/", "http://127.0.0.1:9/b/"))
    text = str(caught.value)
    for name in builtin.MNIST_MD5:
        assert f"http://127.0.0.1:9/a/{name}\n" in text
        assert f"http://127.0.0.1:9/b/{name}\n" in text
    assert "refused" in text
    assert "set FEWLABELS_DATA" in text
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_the_public_mirrors_have_secure_addresses() -> None:
    assert all(mirror.startswith("https://") for mirror in builtin.MNIST_MIRRORS)
    assert all(mirror.endswith("/") for mirror in builtin.MNIST_MIRRORS)


def test_something_else_than_mnist_is_refused(
    monkeypatch: pytest.MonkeyPatch, mirror: tuple[str, Path], cache: Path
) -> None:
    monkeypatch.delenv("FEWLABELS_DATA", raising=False)
    url, folder = mirror
    for name in builtin.MNIST_MD5:
        (folder / name).write_bytes(gzip.compress(b"\0" * 100))
    with pytest.raises(DownloadError, match="it sent something else"):
        builtin.mnist(mirrors=(url,))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(DownloadError, match="it sent something else"):
        builtin.mnist(mirrors=(url,))
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_own_folder_without_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"FEWLABELS_DATA is set, but .*train-images-idx3-ubyte.gz"):
        load_images("mnist")


@pytest.mark.real_data
def test_mnist_from_the_own_folder(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWLABELS_DATA", str(real_data))
    data = load_images("mnist")
    assert len(data) == 70_000


@pytest.mark.real_data
def test_mnist_is_downloaded_once(
    real_data: Path, monkeypatch: pytest.MonkeyPatch, mirror: tuple[str, Path], cache: Path
) -> None:
    monkeypatch.delenv("FEWLABELS_DATA")
    url, folder = mirror
    for name in builtin.MNIST_MD5:
        (folder / name).symlink_to(real_data / "mnist" / name)
    # The first mirror answers 404 to all.
    assert len(builtin.mnist(mirrors=(f"{url}gone/", url))) == 70_000
    files = {path: path.stat().st_mtime_ns for path in (cache / "mnist").iterdir()}
    assert len(files) == 4
    assert len(builtin.mnist(mirrors=())) == 70_000
    damaged = cache / "mnist" / "t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(b"x")
    assert len(builtin.mnist(mirrors=(url,))) == 70_000
    content = gzip.decompress(damaged.read_bytes())
    assert (
        hashlib.md5(content, usedforsecurity=False).hexdigest() == builtin.MNIST_MD5[damaged.name]
    )
