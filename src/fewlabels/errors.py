"""Every error that fewlabels raises on purpose.

::

    FewlabelsError
    ├── DataError          the images or labels cannot be used        (ValueError)
    ├── ConfigError        a setting is wrong                         (ValueError)
    │   └── UnknownNameError   a name that is in no table, with close matches
    ├── RunError           a run folder cannot be used                (ValueError)
    ├── TrainingError      training cannot go on                      (RuntimeError)
    │   └── NonFiniteLossError
    ├── StorageError       the disk is full, read-only or forbidden   (OSError)
    └── DownloadError      a data set could not be fetched            (OSError)

Each message is for a person: what is wrong, where, what is allowed, what to do next. The command
line catches `FewlabelsError` alone, prints the message and exits with 1.
"""

from __future__ import annotations


class FewlabelsError(Exception):
    """Base class of every error raised on purpose."""


class DataError(FewlabelsError, ValueError):
    """The images or labels cannot be used as they are."""


class ConfigError(FewlabelsError, ValueError):
    """A setting is missing, unknown, of the wrong type or out of range."""


class UnknownNameError(ConfigError):
    """A name that stands in no table; the message lists close matches."""


class RunError(FewlabelsError, ValueError):
    """A run folder is missing, incomplete or was written by another version."""


class TrainingError(FewlabelsError, RuntimeError):
    """Training cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss became infinite or not a number; the weights were not updated with it."""


class StorageError(FewlabelsError, OSError):
    """The disk is full, read-only, or writing is not allowed."""


class DownloadError(FewlabelsError, OSError):
    """A data set could not be fetched, or did not arrive as it should."""
