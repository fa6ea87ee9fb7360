"""Looking at an image set before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewlabels.data.inspect import contact_sheet, inspect_images
from fewlabels.files import check_folder_of
from fewlabels.workflows.prepare import read_source
from fewlabels.workflows.settings import DataConfig


def inspect_source(
    source: str, labels: str | None, image_size: str | None, sheet: Path | None
) -> dict[str, Any]:
    """Facts about an image set; with `sheet`, a contact sheet as PNG.

    Raises:
        DataError: the images cannot be read.
        StorageError: the sheet cannot be written.
    """
    if sheet is not None:
        check_folder_of(sheet)
    data = read_source(DataConfig(source=source, labels=labels, image_size=image_size))
    facts = inspect_images(data).to_dict()
    if sheet is not None:
        contact_sheet(data, sheet)
        facts["contact_sheet"] = str(sheet)
    return facts
