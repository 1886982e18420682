"""Where the time goes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


class StageTimer:
    """Adds up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block as part of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def timing(self, stage: str, call: Callable[[A], B]) -> Callable[[A], B]:
        """A function whose calls are timed as part of a stage."""

        def timed(argument: A) -> B:
            with self(stage):
                return call(argument)

        return timed

    def share(self, count: int) -> dict[str, float]:
        """Seconds by stage of each of ``count`` images that were worked on together."""
        return {stage: seconds / count for stage, seconds in self.seconds.items()}
