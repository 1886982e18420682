"""The one family of errors that users see: what happened, why, and what to do.

A message names a setting by its Python name in backticks, such as `min_face`; the command line shows it as its option.
"""

import re
from collections.abc import Mapping
from typing import Self


class AnonError(Exception):
    """Base of every error that this project raises on purpose.

    Args:
        what: what could not be done, with the name of the file or setting.
        why: the cause.
        fix: what the user can do next.
    """

    exit_code = 1

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(f"{what}: {why}; {fix}")
        self.what, self.why, self.fix = what, why, fix

    def __reduce__(self) -> tuple[type["AnonError"], tuple[str, str, str]]:
        """For its way from one process to another."""
        return type(self), (self.what, self.why, self.fix)


class UsageError(AnonError):
    """A value was asked for that has no meaning (exit code 2)."""

    exit_code = 2


class PhotoError(AnonError):
    """One photo cannot be anonymized; the others can (exit code 3).

    Whoever works on pixels does not know the photo's name: whoever does puts it on with `of`.
    """

    exit_code = 3

    def __init__(self, why: str, fix: str, what: str = "the photo") -> None:
        super().__init__(what, why, fix)

    def __reduce__(self) -> tuple[type["PhotoError"], tuple[str, str, str]]:
        """For its way from one process to another."""
        return type(self), (self.why, self.fix, self.what)

    def of(self, name: str) -> Self:
        """The same error with the photo's name."""
        return type(self)(self.why, self.fix, name)


class NoFaceError(PhotoError):
    """No face was found in a photo."""


class BundleError(AnonError):
    """A bundle is missing, damaged, or made for something else."""


class BackendError(AnonError):
    """An engine cannot be loaded or run."""


class GenerationError(BackendError):
    """An engine returned numbers that mean nothing (NaN or infinity)."""


class OutputError(AnonError):
    """A result cannot be written."""


def first_line(error: Exception) -> str:
    """The first line of a library's message, or the type of its error."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def in_flags(text: str, flags: Mapping[str, str]) -> str:
    """A message with the settings that it names in backticks shown as options of the command line."""
    return re.sub(r"`(\w+)`", lambda m: flags.get(m[1], m[0]), text)
