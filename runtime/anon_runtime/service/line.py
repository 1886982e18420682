"""A line of items that wait for a thread, which takes those that fit together."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
PATIENCE = 0.01  # seconds between two looks whether a group may wait longer


class Line(Generic[T]):
    """Items that wait, and the thread that works on them in groups of the same key; the oldest item is always next.

    Args:
        work: works on a group; it raises nothing.
        key: items with different keys are never in one group.
        size: the number of items of a group, at most.
        wait: how long an item waits for others to join its group, in seconds.
        name: of the thread.
        patient: whether nobody waits for the results at the moment, so that a group may wait longer to become full.
    """

    def __init__(
        self,
        work: Callable[[list[T]], object],
        key: Callable[[T], Hashable],
        size: int,
        wait: float,
        name: str,
        patient: Callable[[], bool] = lambda: False,
    ) -> None:
        self._work, self._key, self._size, self._wait, self._patient = work, key, size, wait, patient
        self._waiting: dict[Hashable, deque[tuple[float, T]]] = {}
        self._changed, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether a whole group waits."""
        with self._changed:
            return any(len(items) >= self._size for items in self._waiting.values())

    def put(self, *items: T) -> None:
        """Let items wait; those of one key are in one group, as far as it has room."""
        with self._changed:
            for item in items:
                self._waiting.setdefault(self._key(item), deque()).append((time.monotonic(), item))
            self._changed.notify_all()

    def close(self) -> None:
        """Work on everything that waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while group := self._take():
            self._work(group)

    def _take(self) -> list[T]:
        """Wait for a group, and return it; an empty one if the line is closed and nothing waits."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return []
                self._changed.wait()
            key = min(self._waiting, key=lambda key: self._waiting[key][0][0])
            items = self._waiting[key]
            last = items[0][0] + self._wait
            while len(items) < self._size and not self._closed:
                left = last - time.monotonic()
                if left <= 0 and not self._patient():
                    break
                self._changed.wait(left if left > 0 else PATIENCE)
            group = [items.popleft()[1] for _ in range(min(self._size, len(items)))]
            if not items:
                del self._waiting[key]
            return group
