import threading
import time
from collections.abc import Generator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anon_runtime.folder.threads import in_background, in_order


def count(log: list[int], end: int = 1000) -> Generator[int, None, None]:
    try:
        for i in range(end):
            log.append(i)
            yield i
    finally:
        log.append(-1)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers()), st.integers(1, 4), st.integers(0, 5))
def test_nothing_is_lost_or_turned_round(items: list[int], threads: int, ahead: int) -> None:
    assert list(in_order(lambda x: x * 2, items, threads=threads, ahead=ahead)) == [x * 2 for x in items]
    assert list(in_background((x for x in items), ahead=ahead + 1)) == items


def test_no_more_is_taken_than_has_room() -> None:
    log: list[int] = []
    stage = in_background(count(log), ahead=3)
    assert next(stage) == 0
    time.sleep(0.3)
    assert max(log) <= 5
    stage.close()
    assert log[-1] == -1, "the source was closed"
    taken: list[int] = []
    mapped = in_order(lambda x: x, count(taken), threads=2, ahead=3)
    assert next(mapped) == 0
    assert max(taken) <= 4


def test_errors_come_through_once_what_was_before_them_is_through() -> None:
    def source() -> Generator[int, None, None]:
        yield 1
        raise OSError("disk")

    stage = in_background(source(), ahead=2)
    assert next(stage) == 1
    with pytest.raises(OSError, match="disk"):
        next(stage)

    class Panic(BaseException):
        """An exception that is no `Exception`, as a native extension raises when it panics."""

    def panicking() -> Generator[int, None, None]:
        yield 1
        raise Panic

    with pytest.raises(Panic):
        list(in_background(panicking(), ahead=2))

    def work(x: int) -> int:
        return 1 // x

    with pytest.raises(ZeroDivisionError):
        list(in_order(work, [1, 0, 1], threads=2, ahead=1))


def test_no_thread_stays() -> None:
    before = threading.active_count()
    for stage in (in_background(count([]), ahead=2), in_order(str, count([]), threads=2, ahead=2)):
        next(stage)
        stage.close()
    assert threading.active_count() == before
