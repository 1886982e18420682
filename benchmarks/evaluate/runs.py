"""The run of ``anon-run`` that wrote a method's portraits, as its journal describes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from anon_runtime import Settings
from anon_runtime.diffusion.acceleration import Acceleration
from anon_runtime.folder.identity import is_marked
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.run import make_secret
from anon_runtime.guard.trial import Attempt

Knowledge = Literal["public (the default)", "given", "not known"]
PUBLIC: Knowledge = "public (the default)"
_AS_THEY_ARE = (
    *("sampler", "steps", "guidance_scale", "prompt_truncate"),
    *("prompt_style", "ignore", "detection_threshold", "min_face", "more_formats", "guard"),
)


class Seed(NamedTuple):
    """The seed of a run, or None, and how it is known."""

    value: int | None
    known: Knowledge


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        facts: what all of its portraits depend on; see `anon_runtime.folder.run.describe_run`.
        mark: of its seed; see `anon_runtime.folder.identity.mark`.
        attempts: in which each portrait was painted, by its name without the extension.
        given: the seed that the user gave; it may be that of another run.
    """

    facts: Mapping[str, Any]
    mark: Mapping[str, str]
    attempts: Mapping[str, Attempt]
    given: int | None = None

    @cached_property
    def seed(self) -> Seed:
        """The seed, if it is the default, which everybody knows, or the given one.

        The journal does not hold the seed, but a guess can be compared with its mark, in a tenth of a second. The mark
        also depends on the attributes of ``anon-run --attributes``: the seed of such a run is not found.
        """
        if self._is_seed(RunOptions.seed):
            return Seed(RunOptions.seed, PUBLIC)
        if self.given is not None and self._is_seed(self.given):
            return Seed(self.given, "given")
        return Seed(None, "not known")

    def _is_seed(self, guess: int) -> bool:
        try:
            return is_marked(self.mark, make_secret(guess, None))
        except (ValueError, KeyError, TypeError):  # there is no mark
            return False

    def settings(self) -> Settings:
        """The settings for reading photos and generating images.

        Raises:
            KeyError: the journal lacks a setting, as that of another version of ``anon-run`` may.
        """
        level = self.facts["acceleration"]
        interval = level["guidance_interval"] and tuple(level["guidance_interval"])
        acceleration = Acceleration(level["sampler"], interval, level["cache_interval"])
        return Settings(**{name: self.facts[name] for name in _AS_THEY_ARE}, acceleration=acceleration)
