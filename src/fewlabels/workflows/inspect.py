"""Looking at an image set before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewlabels.data.inspect import contact_sheet, inspect_images
from fewlabels.errors import StorageError
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
    if sheet is not None and not sheet.resolve().parent.is_dir():
        raise StorageError(
            f"Cannot write {sheet}: the folder {sheet.parent} does not exist. Create it first."
        )
    data = read_source(DataConfig(source=source, labels=labels, image_size=image_size))
    facts = inspect_images(data).to_dict()
    if sheet is not None:
        contact_sheet(data, sheet)
        facts["contact_sheet"] = str(sheet)
    return facts
