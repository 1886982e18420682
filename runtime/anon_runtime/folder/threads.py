"""Pipeline stages that work at the same time, connected by short queues."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
PATIENCE = 0.1  # seconds between checks whether the other side has ended


def in_order(work: Callable[[A], B], source: Iterable[A], *, threads: int, ahead: int) -> Generator[B, None, None]:
    """Yield the results of a function in the order of its inputs, computed on several threads.

    Args:
        work: the function.
        source: the inputs.
        threads: the number of threads.
        ahead: the number of inputs that are processed before their results are requested.
    """
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
    """Yield the items of a generator that runs on its own thread.

    An exception of the generator is raised here. If this generator is closed, the other one is closed as soon as it has
    finished its current item.

    Args:
        source: the generator.
        ahead: the number of items that are computed before they are requested.
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
        except BaseException as error:  # noqa: BLE001 - a panic of a native extension is not an Exception
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
            # The time limit is needed because a thread that waits without one cannot handle signals.
            item = queue.get(timeout=PATIENCE)
        except Empty:
            continue
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item[0]
