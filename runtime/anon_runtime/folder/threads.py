"""Stages that work at the same time, joined by queues that hold little."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
PATIENCE = 0.1  # seconds between looks at whether the other side is gone


def in_order(work: Callable[[A], B], source: Iterable[A], *, threads: int, ahead: int) -> Generator[B, None, None]:
    """``map`` on several threads, up to ``ahead`` items before they are asked for."""
    pending: deque[Future[B]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in source:
                pending.append(pool.submit(work, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def in_background(source: Generator[A, None, None], *, ahead: int) -> Generator[A, None, None]:
    """Run a generator on a thread of its own, up to ``ahead`` items before they are asked for.

    What it raises is raised here. Closing this one closes it, after the item that it is at.
    """
    queue: Queue[tuple[A] | BaseException | None] = Queue(ahead)
    left = threading.Event()

    def put(item: tuple[A] | BaseException | None) -> None:
        while not left.is_set():
            with suppress(Full):
                queue.put(item, timeout=PATIENCE)
                return

    def fill() -> None:
        try:
            for item in source:
                put((item,))
                if left.is_set():
                    break
            put(None)
        except BaseException as error:  # noqa: BLE001 - a panic of a native extension is no Exception
            put(error)
        finally:
            source.close()

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        yield from _drain(queue)
    finally:
        left.set()
        thread.join()


def _drain(queue: "Queue[tuple[A] | BaseException | None]") -> Iterator[A]:
    while True:
        try:
            # With a time limit, since a thread that waits without one cannot take signals.
            item = queue.get(timeout=PATIENCE)
        except Empty:
            continue
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item[0]
