"""The errors that elysium raises on purpose.

Each one carries a sentence about what is wrong and one about what to do, so that the command line can print
`str(error)` and leave. This file knows nothing about what can go wrong: the places that raise know.
"""

from __future__ import annotations


class ElysiumError(Exception):
    """Something the user can mend.

    Args:
        message: what is wrong, naming the offending value.
        remedy: what to do about it; may be empty.

    `str(error)` is "message. remedy". `exit_code` is what a command line should leave with.
    """

    exit_code: int = 2

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)  # both in args, so that the error survives pickling
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        if not self.remedy:
            return self.message
        return f"{self.message.rstrip('.')}. {self.remedy}"


class InputError(ElysiumError):
    """An argument (box, expression, option, configuration key) that makes no sense."""


class SourceError(ElysiumError):
    """A video, image or folder that is missing or cannot be read."""


class ModelError(ElysiumError):
    """A model folder that is missing, incomplete or does not fit its weights."""


class TrainingError(ElysiumError):
    """A training run that cannot go on."""


class OutputError(ElysiumError):
    """A file or folder that cannot be written."""
