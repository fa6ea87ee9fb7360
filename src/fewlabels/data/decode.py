"""One image file to pixels as a person would see them; trouble comes back as a `Problem`."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from fewlabels.data.image_set import Problem
from fewlabels.data.resize import Size, fit_image

PIXEL_LIMIT = 64_000_000
"""Images with more pixels are refused from their header, before any is decoded."""

EXTENSIONS = frozenset(
    f".{name}"
    for names in (
        "png gif bmp dib webp avif",
        "jpg jpeg jpe jfif jp2 j2k",
        "tif tiff ppm pgm pbm pnm",
    )
    for name in names.split()
)
"""Extensions of the files that are tried as images."""

# Named, because Pillow also opens formats that start other programs (EPS) or that any text fits.
_JPEG_START = b"\xff\xd8"
_JFIF_START = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
_FRAME = struct.Struct(">BHHB")  # bits, height, width, components
_FRAME_MARKERS = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_HARMLESS_MARKERS = (0xC4, 0xDB, 0xDD, 0xE0, 0xFE)  # tables, restarts, JFIF, comments
_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
_READ_TRIES = 3
_BINARY, _WITHOUT_WAITING = getattr(os, "O_BINARY", 0), getattr(os, "O_NONBLOCK", 0)
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
_PHOTOMETRIC_TAG, _BITS_TAG = 262, 258  # TIFF 6.0


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """An image as a person would see it.

    Attributes:
        pixels: uint8 (C, H, W); C is 1 where red, green and blue are equal everywhere, else 3.
        mode: how the file stores it, in Pillow's words ("L", "RGB", "P", "CMYK", "I;16", ...).
        size: height and width before resizing, upright.
        peak: largest grey value of an image with 16 bits, 0…65535; None for all others.
        stamp: size in bytes and time of change in nanoseconds of the file that was read; None for
            bytes.
    """

    pixels: npt.NDArray[np.uint8]
    mode: str
    size: Size
    peak: int | None
    stamp: tuple[int, int] | None = None


class _TooLargeError(Exception):
    """More pixels than allowed."""


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings about odd files; what matters of them comes back as a `Problem`.

    Filters are global to the process, so this stands around a pool of threads, not inside.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def read_size(content: bytes | str | Path) -> Size | None:
    """Height and width from an image's header, upright; None where it cannot be read."""
    try:
        with _open(content) as image:
            return _upright_size(image)
    except Exception:  # whatever a decoder stumbles over; decode_image will report it
        return None


def decode_image(
    content: bytes | str | Path, where: str, size: Size | None = None
) -> DecodedImage | Problem:
    """Decode an image: upright, on white, 8 bits, grey or red-green-blue.

    Grey values of 16 bits are scaled by the full range that the file declares, as viewers do, so
    brightness stays comparable between the images of a set; floats must lie in [0, 1].

    Args:
        content: the file's bytes, or its path.
        where: its name, for the `Problem`.
        size: centre-cropped and resized to this; None keeps the image's own.

    Returns:
        The image, or a `Problem` of kind "broken" or "too_large".
    """
    stamp = None
    try:
        if not isinstance(content, bytes):
            content, stamp = _read_file(content)
        decoded = _decode_plain_jpeg(content, size)
        if decoded is None:
            with _open(content) as image:
                decoded = _decode(image, size)
        return decoded if stamp is None else replace(decoded, stamp=stamp)
    except (_TooLargeError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = PIXEL_LIMIT // 1_000_000
        message = f"has more than {limit} megapixels, the limit; shrink it first"
        return Problem(kind="too_large", where=where, message=message)
    except Exception as error:  # whatever a decoder stumbles over: one bad file stops nothing
        return Problem(kind="broken", where=where, message=_reason(error))


def _open(content: bytes | str | Path) -> Image.Image:
    if not isinstance(content, bytes):
        content, _ = _read_file(content)
    if not content:
        raise ValueError("is empty (0 bytes)")
    # Looking for a JPEG alone saves a fifth of the time on small ones, which most images are.
    is_jpeg = content.startswith(_JPEG_START)
    formats = ("JPEG", "MPO") if is_jpeg else _readable_formats()
    image = Image.open(io.BytesIO(content), formats=formats)
    if image.width * image.height > PIXEL_LIMIT:
        image.close()
        raise _TooLargeError
    return image


def _read_file(path: str | Path) -> tuple[bytes, tuple[int, int]]:
    """A file's content and stamp; what changes while it is read is read again."""
    # Without blocking, as opening a named pipe would wait forever.
    descriptor = os.open(path, os.O_RDONLY | _BINARY | _WITHOUT_WAITING)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is no regular file")
        for _ in range(_READ_TRIES):
            content = _read_all(descriptor, status.st_size)
            after = os.fstat(descriptor)
            if (after.st_mtime_ns, after.st_size) == (status.st_mtime_ns, len(content)):
                return content, (after.st_size, after.st_mtime_ns)
            status = after
            os.lseek(descriptor, 0, os.SEEK_SET)
    finally:
        os.close(descriptor)
    raise ValueError("keeps changing while it is read")


def _read_all(descriptor: int, expected: int) -> bytes:
    content = os.read(descriptor, expected + 1)
    if len(content) >= expected or not content:
        return content
    parts = [content]  # network file systems hand out large files in parts
    while part := os.read(descriptor, expected):
        parts.append(part)
    return b"".join(parts)


@cache
def _readable_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _decode_plain_jpeg(content: bytes, size: Size | None) -> DecodedImage | None:
    """A plain JPEG that has its size already; None for everything else.

    Pillow reads all of a file's markers before it decodes, which takes a third of the time on small
    images; here the decoder gets the bytes at once.
    """
    found = _plain_jpeg_header(content)
    if found is None or (size is not None and found[1] != size):
        return None
    mode, (height, width) = found
    if height * width > PIXEL_LIMIT:
        return None
    try:
        image = Image.frombytes(mode, (width, height), content, "jpeg", mode, "")
    except (ValueError, OSError):  # damaged: the long way says how
        return None
    return DecodedImage(pixels=_channels_first(image), mode=mode, size=found[1], peak=None)


def _plain_jpeg_header(content: bytes) -> tuple[str, Size] | None:
    """Mode, height and width of a JFIF file without EXIF, Adobe's or other marks on its colours.

    Source: ITU-T T.81 (1992), annex B, and the JPEG File Interchange Format 1.02.
    """
    if not content.startswith(_JFIF_START):
        return None
    place, end = 2, len(content) - 10
    while place < end and content[place] == 0xFF:
        marker = content[place + 1]
        if marker in _FRAME_MARKERS:
            bits, height, width, components = _FRAME.unpack_from(content, place + 4)
            mode = {1: "L", 3: "RGB"}.get(components)
            return (mode, (height, width)) if mode and bits == 8 and height and width else None
        if marker not in _HARMLESS_MARKERS:
            return None
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return None


def _decode(image: Image.Image, size: Size | None) -> DecodedImage:
    mode = image.mode
    upright_size = _upright_size(image)
    if size is not None:
        _shrink_while_decoding(image, size)
    image.load()
    if image.format != "JPEG" or "exif" in image.info:
        with suppress(Exception):  # a damaged orientation tag: viewers show the image as it lies
            ImageOps.exif_transpose(image, in_place=True)
    seen, peak = _as_seen(image)
    if size is not None:
        seen = fit_image(seen, size)
    else:
        upright_size = (seen.height, seen.width)
    return DecodedImage(pixels=_channels_first(seen), mode=mode, size=upright_size, peak=peak)


def _upright_size(image: Image.Image) -> Size:
    # Pillow gives TIFF files their upright size already, and puts a JPEG's block in its info.
    if image.format != "TIFF" and (image.format != "JPEG" or "exif" in image.info):
        with suppress(Exception):  # a damaged EXIF block says nothing about the pixels
            if image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS:
                return image.width, image.height
    return image.height, image.width


def _shrink_while_decoding(image: Image.Image, size: Size) -> None:
    # JPEG can be decoded at 1/2, 1/4 or 1/8, several times faster; twice the target stays sharp.
    longer = 2 * max(size)
    if max(image.size) >= 2 * longer:
        image.draft(None, (longer, longer))


def _as_seen(image: Image.Image) -> tuple[Image.Image, int | None]:
    if image.format == "JPEG" and image.mode in ("L", "RGB"):  # most images, so asked first
        return image, None
    if image.mode.startswith("I") or image.mode == "F":
        return _wide_grey(image)
    if image.mode in ("CMYK", "LAB"):
        return _through_profiles(image), None
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        white = Image.new("RGBA", layers.size, "white")
        return Image.alpha_composite(white, layers).convert("RGB"), None
    return image.convert("L" if image.mode in ("1", "L") else "RGB"), None


def _wide_grey(image: Image.Image) -> tuple[Image.Image, int | None]:
    values = np.asarray(image)
    if image.mode == "F":
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError("holds floats outside 0…1, which have no fixed white")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8)), None
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("holds 32-bit values outside 0…65535, which have no fixed white")
    white = 65535
    tags: Any = getattr(image, "tag_v2", {})
    if image.mode != "I":
        bits = tags.get(_BITS_TAG, 16)
        white = 2 ** (bits[0] if isinstance(bits, tuple) else bits) - 1
        if tags.get(_PHOTOMETRIC_TAG) == 0:  # "white is zero", which Pillow leaves at 16 bits
            values = white - values
    peak = int(values.max()) * 65535 // white
    scaled = (values.astype(np.uint32) * 255 + white // 2) // white
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        scaled = np.where(values == clear, 255, scaled)
    return Image.fromarray(scaled.astype(np.uint8)), peak


def _through_profiles(image: Image.Image) -> Image.Image:
    """CMYK or Lab to sRGB: by the file's own profile where it has one, else plainly."""
    embedded = image.info.get("icc_profile")
    try:
        if image.mode == "LAB":
            profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif embedded:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        else:
            return image.convert("RGB")
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, profile, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        if image.mode == "LAB":
            raise
        return image.convert("RGB")  # an unusable profile: what viewers without profiles show
    assert converted is not None
    return converted


def _channels_first(image: Image.Image) -> npt.NDArray[np.uint8]:
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels[None]
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    red, green, blue = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].tolist()
    if red != green or green != blue:  # settles most colour images at once
        return planes
    is_grey = (planes[0] == planes[1]).all() and (planes[1] == planes[2]).all()
    return planes[:1] if is_grey else planes


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "is no image of a known format, whatever its name says"
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if lines[0].startswith(("is ", "holds ")) else f"cannot be decoded: {lines[0]}"
