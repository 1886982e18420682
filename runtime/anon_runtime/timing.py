"""Measuring the time of the stages of a run."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


class StageTimer:
    """A timer that adds up seconds by stage.

    Attributes:
        seconds: the time of each stage so far.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of a ``with`` block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def timing(self, stage: str, call: Callable[[A], B]) -> Callable[[A], B]:
        """Return a function that calls another one and adds the time of each call to a stage."""

        def timed(argument: A) -> B:
            with self(stage):
                return call(argument)

        return timed

    def share(self, count: int) -> dict[str, float]:
        """Return the seconds by stage of each of ``count`` images that were generated together."""
        return {stage: seconds / count for stage, seconds in self.seconds.items()}
