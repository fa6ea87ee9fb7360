"""One image file to pixels as a person would see them; trouble comes back as a `Problem`."""

from __future__ import annotations

import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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
_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
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
    """

    pixels: npt.NDArray[np.uint8]
    mode: str
    size: Size
    peak: int | None


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


def read_size(content: bytes | Path) -> Size | None:
    """Height and width from an image's header, upright; None where it cannot be read."""
    try:
        with _open(content) as image:
            return _upright_size(image)
    except Exception:  # whatever a decoder stumbles over; decode_image will report it
        return None


def decode_image(
    content: bytes | Path, where: str, size: Size | None = None
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
    try:
        with _open(content) as image:
            return _decode(image, size)
    except (_TooLargeError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = PIXEL_LIMIT // 1_000_000
        message = f"has more than {limit} megapixels, the limit; shrink it first"
        return Problem(kind="too_large", where=where, message=message)
    except Exception as error:  # whatever a decoder stumbles over: one bad file stops nothing
        return Problem(kind="broken", where=where, message=_reason(error))


@contextmanager
def _open(content: bytes | Path) -> Iterator[Image.Image]:
    if isinstance(content, Path):
        status = content.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a named pipe would wait forever
            raise ValueError("is no regular file")
        num_bytes = status.st_size
    else:
        num_bytes = len(content)
    if num_bytes == 0:
        raise ValueError("is empty (0 bytes)")
    # An open file, not its name: by name Pillow maps raw rasters, and turns those of TIFF wrongly.
    source = io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb")  # noqa: SIM115
    with source, Image.open(source, formats=_readable_formats()) as image:
        if image.width * image.height > PIXEL_LIMIT:
            raise _TooLargeError
        yield image


@cache
def _readable_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _decode(image: Image.Image, size: Size | None) -> DecodedImage:
    mode = image.mode
    upright_size = _upright_size(image)
    if size is not None:
        _shrink_while_decoding(image, size)
    image.load()
    with suppress(Exception):  # a damaged orientation tag: viewers show the image as it lies
        ImageOps.exif_transpose(image, in_place=True)
    seen, peak = _as_seen(image)
    if size is not None:
        seen = fit_image(seen, size)
    else:
        upright_size = (seen.height, seen.width)
    return DecodedImage(pixels=_channels_first(seen), mode=mode, size=upright_size, peak=peak)


def _upright_size(image: Image.Image) -> Size:
    # Pillow gives TIFF files their upright size already.
    if image.format != "TIFF":
        with suppress(Exception):  # a damaged EXIF block says nothing about the pixels
            if image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS:
                return image.width, image.height
    return image.height, image.width


def _shrink_while_decoding(image: Image.Image, size: Size) -> None:
    # JPEG can be decoded at 1/2, 1/4 or 1/8, several times faster; twice the target stays sharp.
    longer = 2 * max(size)
    image.draft(None, (longer, longer))


def _as_seen(image: Image.Image) -> tuple[Image.Image, int | None]:
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
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return np.ascontiguousarray(red)[None]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "is no image of a known format, whatever its name says"
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if lines[0].startswith(("is ", "holds ")) else f"cannot be decoded: {lines[0]}"
