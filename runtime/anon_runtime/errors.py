"""The errors that users see; each of them says what happened, why, and what to do.

A message names a setting by its Python name in backticks, such as `min_face`. The command line replaces the name by the
option, such as ``--min-face``.
"""

import re
from collections.abc import Mapping
from typing import Self


class AnonError(Exception):
    """The base class of all errors that this project raises on purpose.

    Args:
        what: what could not be done, with the name of the file or setting.
        why: the cause.
        fix: what the user can do next.

    Attributes:
        exit_code: the exit code with which the command line ends.
    """

    exit_code = 1

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(f"{what}: {why}; {fix}")
        self.what, self.why, self.fix = what, why, fix

    def __reduce__(self) -> tuple[type["AnonError"], tuple[str, str, str]]:
        """Return the parts from which pickle creates the error again in another process."""
        return type(self), (self.what, self.why, self.fix)


class UsageError(AnonError):
    """A value or a combination of values that the user gave is not valid (exit code 2)."""

    exit_code = 2


class PhotoError(AnonError):
    """One photo cannot be anonymized; other photos are not affected (exit code 3).

    Functions that work on pixels do not know the name of the photo. The caller that knows it adds it with `of`.

    Args:
        why: the cause.
        fix: what the user can do next.
        what: the name of the photo.
    """

    exit_code = 3

    def __init__(self, why: str, fix: str, what: str = "the photo") -> None:
        super().__init__(what, why, fix)

    def __reduce__(self) -> tuple[type["PhotoError"], tuple[str, str, str]]:
        """Return the parts from which pickle creates the error again in another process."""
        return type(self), (self.why, self.fix, self.what)

    def of(self, name: str) -> Self:
        """Return the same error with the name of the photo."""
        return type(self)(self.why, self.fix, name)


class NoFaceError(PhotoError):
    """No face was found in a photo."""


class RefusedError(PhotoError):
    """No portrait of a photo passed the guard, so that none is released."""


class BundleError(AnonError):
    """A bundle is missing, is damaged, or does not have what is needed."""


class BackendError(AnonError):
    """An engine cannot be loaded or run."""


class GenerationError(BackendError):
    """An engine returned NaN or infinity."""


class OutputError(AnonError):
    """An output cannot be written."""


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message, or the name of its type if the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def in_flags(text: str, flags: Mapping[str, str]) -> str:
    """Replace the settings that a message names in backticks by options of the command line.

    Args:
        text: the message.
        flags: the options by the names of the settings; other names are not replaced.
    """
    return re.sub(r"`(\w+)`", lambda m: flags.get(m[1], m[0]), text)
