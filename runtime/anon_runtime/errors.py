"""The one family of errors that users see: what happened, why, and what to do."""

import re
from collections.abc import Mapping


class AnonError(Exception):
    """Base of every error that this project raises on purpose.

    Args:
        what: what could not be done, naming the file or option.
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
    """One photo cannot be anonymized; the others can (exit code 3)."""

    exit_code = 3


class NoFaceError(PhotoError):
    """No face was found in a photo."""


class BundleError(AnonError):
    """A bundle is missing, damaged, or made for something else."""


class BackendError(AnonError):
    """An engine cannot be loaded or run."""


class GenerationError(PhotoError):
    """A network returned numbers that are no image (NaN or infinity)."""


class OutputError(AnonError):
    """A result cannot be written."""


def in_flags(text: str, flags: Mapping[str, str]) -> str:
    """A message with the settings that it names in backticks shown as options of the command line."""
    return re.sub(r"`(\w+)`", lambda m: flags.get(m[1], m[0]), text)
