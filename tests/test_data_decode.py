"""Decoding: every mode comes out as a person would see it, and bad files become problems."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from fewlabels.data.decode import DecodedImage, decode_image, quiet_pillow, read_size
from fewlabels.data.image_set import Problem
from fewlabels.data.resize import fit_image, parse_image_size, usual_size
from fewlabels.errors import ConfigError

ORIENTATION = 0x0112


def _decode(path: Path, size: tuple[int, int] | None = None) -> DecodedImage:
    with quiet_pillow():
        decoded = decode_image(path, path.name, size)
    assert isinstance(decoded, DecodedImage), decoded
    return decoded


def _problem(content: Path | bytes) -> Problem:
    with quiet_pillow():
        problem = decode_image(content, "where")
    assert isinstance(problem, Problem)
    assert problem.where == "where"
    return problem


def _save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def _colours() -> Image.Image:
    """Red, green / blue, white, in a 2 x 2 raster of 8 x 8 blocks."""
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:8, :8], pixels[:8, 8:] = (255, 0, 0), (0, 255, 0)
    pixels[8:, :8], pixels[8:, 8:] = (0, 0, 255), (255, 255, 255)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".tif", ".webp", ".ppm", ".jp2"])
def test_lossless_colour_formats(tmp_path: Path, suffix: str) -> None:
    options = {".webp": {"lossless": True}}.get(suffix, {})
    decoded = _decode(_save(_colours(), tmp_path / f"a{suffix}", **options))
    assert np.array_equal(decoded.pixels, np.asarray(_colours()).transpose(2, 0, 1))
    assert decoded.size == (16, 16)


@pytest.mark.parametrize("suffix", [".jpg", ".avif"])
def test_lossy_colour_formats(tmp_path: Path, suffix: str) -> None:
    decoded = _decode(_save(_colours(), tmp_path / f"a{suffix}", quality=100, subsampling="4:4:4"))
    expected = np.asarray(_colours()).transpose(2, 0, 1).astype(int)
    assert np.abs(decoded.pixels - expected).max() <= 8


def test_grey_ramp_keeps_its_values(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    decoded = _decode(_save(Image.fromarray(ramp), tmp_path / "a.png"))
    assert decoded.mode == "L"
    assert np.array_equal(decoded.pixels, ramp[None])


def test_colour_file_that_looks_grey_is_grey(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    decoded = _decode(_save(Image.fromarray(ramp).convert("RGB"), tmp_path / "a.png"))
    assert decoded.mode == "RGB"
    assert np.array_equal(decoded.pixels, ramp[None])


def test_one_bit(tmp_path: Path) -> None:
    checks = np.indices((4, 4)).sum(axis=0) % 2 == 0
    decoded = _decode(_save(Image.fromarray(checks), tmp_path / "a.png"))
    assert decoded.mode == "1"
    assert np.array_equal(decoded.pixels[0], checks * 255)


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    image = _colours().quantize(4)
    assert np.array_equal(
        _decode(_save(image, tmp_path / "a.png")).pixels, np.asarray(_colours()).transpose(2, 0, 1)
    )
    red = image.getpixel((0, 0))
    decoded = _decode(_save(image, tmp_path / "b.png", transparency=red))
    assert decoded.mode == "P"
    assert (decoded.pixels[:, :8, :8] == 255).all()
    assert decoded.pixels[:, 0, 15].tolist() == [0, 255, 0]


def test_alpha_lies_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = (0, 128, 255)  # black: invisible, half, solid
    decoded = _decode(_save(Image.fromarray(rgba), tmp_path / "a.png"))
    assert decoded.mode == "RGBA"
    assert decoded.pixels.tolist() == [[[255, 127, 0]]]
    la = np.stack([np.zeros((1, 3)), rgba[..., 3]], axis=-1).astype(np.uint8)
    decoded = _decode(_save(Image.fromarray(la, "LA"), tmp_path / "b.png"))
    assert decoded.mode == "LA"
    assert decoded.pixels.tolist() == [[[255, 127, 0]]]


def test_grey_of_16_bits_uses_the_full_range(tmp_path: Path) -> None:
    values = np.array([[0, 257 * 128, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        decoded = _decode(_save(Image.fromarray(values), tmp_path / name))
        assert decoded.mode == "I;16"
        assert decoded.pixels.tolist() == [[[0, 128, 255]]]
        assert decoded.peak == 65535


def test_grey_of_16_bits_with_a_transparent_value(tmp_path: Path) -> None:
    path = _save(Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)), tmp_path / "a.png")
    content = path.read_bytes()
    body = b"tRNS" + b"\0\0"  # value 0 is clear (PNG specification, 11.3.2.1)
    chunk = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    start = content.index(b"IDAT") - 4
    path.write_bytes(content[:start] + chunk + content[start:])
    assert _decode(path).pixels.tolist() == [[[255, 255]]]


def test_tiff_of_16_bits_whose_white_is_zero(tmp_path: Path) -> None:
    path = _save(Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)), tmp_path / "a.tif")
    content = bytearray(path.read_bytes())
    entry = content.index(struct.pack("<HHI", 262, 3, 1))
    content[entry + 8] = 0  # photometric interpretation: white is zero
    path.write_bytes(content)
    assert _decode(path).pixels.tolist() == [[[255, 0]]]


def test_pgm_of_16_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 2 1 65535\n" + struct.pack(">HH", 0, 65535))
    assert _decode(path).pixels.tolist() == [[[0, 255]]]


def test_float_tiff_in_unit_range_is_scaled_and_others_are_refused(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    assert _decode(_save(Image.fromarray(values), tmp_path / "a.tif")).pixels.tolist() == [
        [[0, 128, 255]]
    ]
    path = _save(Image.fromarray(values * 1000), tmp_path / "b.tif")
    assert "floats outside 0…1" in _problem(path).message
    path = _save(Image.fromarray(values * np.nan), tmp_path / "c.tif")
    assert "floats outside 0…1" in _problem(path).message


def test_wide_whole_numbers_are_refused(tmp_path: Path) -> None:
    path = _save(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), tmp_path / "a.tif")
    assert "no fixed white" in _problem(path).message


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk(tmp_path: Path, suffix: str) -> None:
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    decoded = _decode(_save(cyan, tmp_path / f"a{suffix}"))
    assert decoded.mode == "CMYK"
    red, green, blue = decoded.pixels[:, 4, 4].tolist()
    assert red <= 2
    assert min(green, blue) >= 253


def test_cmyk_with_an_unusable_profile_still_decodes(tmp_path: Path) -> None:
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    decoded = _decode(_save(cyan, tmp_path / "a.jpg", icc_profile=b"nonsense"))
    assert decoded.pixels[0].max() <= 2


def test_lab(tmp_path: Path) -> None:
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    muted = Image.fromarray(np.asarray(_colours()) // 4 * 2 + 64)
    lab = ImageCms.applyTransform(muted, to_lab)
    assert lab is not None
    decoded = _decode(_save(lab, tmp_path / "a.tif"))
    assert decoded.mode == "LAB"
    expected = np.asarray(muted).transpose(2, 0, 1).astype(int)
    assert np.abs(decoded.pixels - expected).max() <= 12


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    # Where the picture's own upper left corner lies in the stored raster (EXIF 2.3, table 4.6.4 A).
    stored = Image.new("L", (24, 16), 0)
    corner = {1: "lt", 2: "rt", 3: "rb", 4: "lb", 5: "lt", 6: "lb", 7: "rb", 8: "rt"}[orientation]
    left, top = (0 if corner[0] == "l" else 16), (0 if corner[1] == "t" else 8)
    stored.paste(255, (left, top, left + 8, top + 8))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    path = _save(stored, tmp_path / f"a{suffix}", exif=exif, **options)
    decoded = _decode(path)
    expected_size = (16, 24) if orientation <= 4 else (24, 16)
    assert decoded.pixels.shape[1:] == decoded.size == expected_size
    assert decoded.pixels[0, 4, 4] > 250
    assert decoded.pixels[0].mean() < 60
    assert read_size(path) == expected_size
    shrunk = _decode(path, (expected_size[0] // 2, expected_size[1] // 2))
    assert shrunk.size == expected_size
    assert shrunk.pixels[0, 2, 2] > 240


def test_damaged_exif_does_not_lose_the_image(tmp_path: Path) -> None:
    path = _save(_colours(), tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert _decode(path).pixels.shape == (3, 16, 16)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    path = _save(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (_decode(path).pixels == 10).all()


def test_centre_crop_keeps_the_aspect(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, 20:40] = (0, 255, 0)  # the middle square
    decoded = _decode(_save(Image.fromarray(pixels), tmp_path / "a.png"), (10, 10))
    assert decoded.size == (20, 60)
    assert (decoded.pixels[1, :, 1:-1] == 255).all()
    assert (decoded.pixels[1] > 200).all()  # the filter reaches over the cut by half a pixel
    assert not decoded.pixels[0].any()


def test_shrinking_is_antialiased() -> None:
    # A checkerboard of single pixels has no detail left at half size: all of it must be mid-grey.
    checks = Image.fromarray(((np.indices((64, 64)).sum(axis=0) % 2) * 255).astype(np.uint8))
    shrunk = np.asarray(fit_image(checks, (16, 16)))
    assert np.abs(shrunk.astype(int) - 127).max() <= 3


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (33, 50), (96, 5)])
def test_any_size_fits_any_other(size: tuple[int, int]) -> None:
    for height, width in [(1, 1), (1, 90), (31, 17), (100, 3)]:
        fitted = fit_image(Image.new("L", (width, height), 77), size)
        assert (fitted.height, fitted.width) == size
        assert set(np.asarray(fitted).ravel().tolist()) == {77}


def test_large_jpeg_shrinks_like_a_full_decode(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 255, (8, 12, 3), dtype=np.uint8))
    path = _save(smooth.resize((960, 640), Image.Resampling.BICUBIC), tmp_path / "a.jpg")
    with Image.open(path) as image:
        expected = np.asarray(fit_image(image.convert("RGB"), (32, 32))).transpose(2, 0, 1)
    decoded = _decode(path, (32, 32))
    assert decoded.size == (640, 960)
    assert np.abs(decoded.pixels.astype(int) - expected).max() <= 4


def _bomb_png(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    packer = zlib.compressobj()
    row = bytes(1 + side // 8)
    body = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [30_000, 10_000, 8_800])
def test_png_bomb_is_refused_from_its_header(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_bomb_png(side))
    assert path.stat().st_size < 200_000
    problem = _problem(path)
    assert problem.kind == "too_large"
    assert "64 megapixels" in problem.message
    assert read_size(path) is None


def test_bad_files_are_problems_with_a_reason(tmp_path: Path) -> None:
    good = _save(_colours(), tmp_path / "good.png").read_bytes()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    jpeg = _save(Image.fromarray(noise), tmp_path / "good.jpg").read_bytes()
    assert "empty (0 bytes)" in _problem(b"").message
    assert "no image of a known format" in _problem(b"hello, world\n" * 20).message
    assert _problem(good[:40]).kind == "broken"
    assert "truncated" in _problem(jpeg[: len(jpeg) // 2]).message
    assert _problem(good[: len(good) // 2]).kind == "broken"
    assert "No such file" in _problem(tmp_path / "gone.png").message
    assert "no regular file" in _problem(tmp_path).message


def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert "no regular file" in _problem(tmp_path / "a.png").message


def test_postscript_is_never_run(tmp_path: Path) -> None:
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    assert "no image of a known format" in _problem(content).message


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_no_cut_raises(tmp_path: Path, cut: int) -> None:
    for suffix in ("png", "jpg", "gif", "tif", "webp", "bmp"):
        path = _save(_colours(), tmp_path / f"a.{suffix}")
        with quiet_pillow():
            decode_image(path.read_bytes()[:cut], "a", (8, 8))


def test_image_sizes() -> None:
    assert parse_image_size(None) is None
    assert parse_image_size(32) == parse_image_size("32") == (32, 32)
    assert parse_image_size("32x48") == parse_image_size(" 32 × 48 ") == (32, 48)
    assert usual_size({(28, 28): 3, (64, 64): 2}) == (28, 28)
    assert usual_size({(28, 28): 2, (64, 64): 2}) == (64, 64)
    assert usual_size({(480, 640): 1}) == (72, 96)
    assert usual_size({(1, 5000): 1}) == (1, 96)


@pytest.mark.parametrize("value", [0, -3, "0x32", "big", "32x", 5000, True, 3.5, ""])
def test_wrong_image_sizes(value: object) -> None:
    with pytest.raises(ConfigError, match=r"The image size must be one side \(32\)"):
        parse_image_size(value)  # type: ignore[arg-type]
