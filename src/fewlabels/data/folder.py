"""A folder tree of images with a class per sub-folder.

::

    DATA/cat/1.png  DATA/dog/2.png  DATA/unlabelled/3.png  DATA/4.png     or, with official parts,
    DATA/train/cat/1.png  DATA/train/unlabelled/3.png  DATA/validation/...  DATA/test/...
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fewlabels.data.cache import decode_cached
from fewlabels.data.decode_all import EncodedImages
from fewlabels.data.file_list import FileList, list_image_files
from fewlabels.data.image_set import ImageSet, Part
from fewlabels.data.labels import Encoded, encode_texts
from fewlabels.data.options import ReadOptions
from fewlabels.data.parts import PART_WORDS, settle_parts
from fewlabels.errors import DataError

UNLABELLED_WORDS = ("unlabelled", "unlabeled")
"""Names of sub-folders whose images have no label."""


def read(path: Path, options: ReadOptions) -> ImageSet:
    """Read a folder tree.

    Args:
        path: the folder.
        options: see `ReadOptions`; `labels` plays no role.

    Raises:
        DataError: it holds no image that can be read.
    """
    files = list_image_files(path)
    if not files.names:
        raise DataError(_no_images_sentence(path, files))
    texts, parts = roles(files.names)
    return decode_files(path, files, encode_texts(texts, str(path)), parts, options)


def read_single(path: Path, options: ReadOptions) -> ImageSet:
    """Read one image file as a set of one, without label.

    Raises:
        DataError: it cannot be read as an image.
    """
    files = FileList(names=(path.name,), stamp=(), ignored={}, problems=())
    no_label = encode_texts([None], str(path))
    return decode_files(path.parent, files, no_label, [Part.POOL], replace(options, cache=False))


def roles(names: Sequence[str]) -> tuple[list[str | None], list[Part]]:
    """What the sub-folders say about each image: its class, and its official part.

    The first sub-folder is the class. Where all of them are words like train, validation and test,
    and train is among them, they are parts, and the second is the class.

    Args:
        names: relative paths with "/".
    """
    folders = [name.split("/")[:-1] for name in names]
    tops = {parents[0].lower() for parents in folders if parents} - set(UNLABELLED_WORDS)
    has_parts = tops <= set(PART_WORDS) and any(PART_WORDS[top] == Part.POOL for top in tops)
    texts: list[str | None] = []
    parts = []
    for parents in folders:
        part = Part.POOL
        if has_parts and parents:
            part = PART_WORDS.get(parents[0].lower(), Part.POOL)
            parents = parents[1:] if parents[0].lower() in PART_WORDS else parents
        is_labelled = bool(parents) and parents[0].lower() not in UNLABELLED_WORDS
        texts.append(parents[0] if is_labelled else None)
        parts.append(part)
    return texts, parts


def decode_files(
    root: Path,
    files: FileList,
    encoded_labels: Encoded,
    parts: Sequence[Part],
    options: ReadOptions,
) -> ImageSet:
    """Decode listed files and put the set together.

    Args:
        root: the folder that `files` lists.
        files: N image files.
        encoded_labels: their labels and the class names.
        parts: their official parts.
        options: size and cache.
    """
    encoded = EncodedImages(
        source=str(root.resolve()),
        names=files.names,
        contents=lambda: (f"{root}{os.sep}{name}" for name in files.names),
        stamp=files.stamp,
    )
    decoded = decode_cached(encoded, options.image_size, options.cache)
    labels, class_names = encoded_labels
    labels = labels[decoded.kept]
    kept_parts, problems = settle_parts(
        np.array(parts, dtype=np.int8)[decoded.kept], labels, str(root)
    )
    return ImageSet(
        images=decoded.images,
        labels=labels,
        class_names=class_names,
        ids=np.array(files.names, dtype=np.str_)[decoded.kept],
        parts=kept_parts,
        source=str(root),
        problems=(*files.problems, *decoded.problems, *problems),
        facts=decoded.facts | {"ignored": files.ignored},
    )


def _no_images_sentence(path: Path, files: FileList) -> str:
    others = Counter(files.ignored)
    found = f" There are {others.total()} other files in it." if others else ""
    return (
        f"The folder {path} holds no images.{found} Put one sub-folder per class in it, or IDX or "
        "Parquet files, or images beside a label file named with --labels."
    )
