import threading
import time

from anon_runtime.service.line import Line


def test_items_of_one_key_are_worked_on_together_and_the_oldest_first() -> None:
    groups: list[list[tuple[str, int]]] = []
    hold, begun = threading.Event(), threading.Event()

    def work(items: list[tuple[str, int]]) -> None:
        groups.append(items)
        begun.set()
        hold.wait()

    line: Line[tuple[str, int]] = Line(work, lambda item: item[0], size=2, wait=0, name="test")
    line.put(("first", 0))
    assert begun.wait(10)
    for item in (("a", 1), ("b", 2), ("a", 3), ("a", 4), ("b", 5)):
        line.put(item)
    hold.set()
    line.close()
    assert groups == [[("first", 0)], [("a", 1), ("a", 3)], [("b", 2), ("b", 5)], [("a", 4)]]


def test_items_that_come_together_are_in_one_group() -> None:
    groups: list[list[int]] = []
    line: Line[int] = Line(groups.append, lambda item: item % 2, size=3, wait=0, name="test")
    line.put(*range(8))
    line.close()
    assert groups == [[0, 2, 4], [1, 3, 5], [6], [7]]


def test_a_group_waits_for_others_but_not_longer_than_it_may() -> None:
    groups: list[list[int]] = []
    done = threading.Event()

    def work(items: list[int]) -> None:
        groups.append(items)
        if 3 in items:
            done.set()

    line: Line[int] = Line(work, lambda item: None, size=2, wait=0.2, name="test")
    line.put(1)
    time.sleep(0.02)
    line.put(2)  # the group is full and goes at once
    start = time.monotonic()
    line.put(3)
    assert done.wait(10)
    assert time.monotonic() - start >= 0.2
    assert groups == [[1, 2], [3]]
    line.close()


def test_closing_does_not_wait_for_others() -> None:
    groups: list[list[int]] = []
    line: Line[int] = Line(groups.append, lambda item: None, size=2, wait=1000, name="test")
    line.put(1)
    line.close()
    assert groups == [[1]]


def test_a_group_waits_longer_where_nobody_waits_for_it() -> None:
    groups: list[list[int]] = []
    patient = threading.Event()
    patient.set()
    line: Line[int] = Line(groups.append, lambda item: None, size=2, wait=0, name="test", patient=patient.is_set)
    line.put(1)
    time.sleep(0.1)
    assert groups == []
    assert not line.full
    line.put(2)
    while not groups:
        time.sleep(0.01)
    line.put(3)
    time.sleep(0.1)
    patient.clear()
    line.close()
    assert groups == [[1, 2], [3]]


def test_a_line_says_whether_a_group_is_full() -> None:
    hold, begun = threading.Event(), threading.Event()

    def work(items: list[int]) -> None:
        begun.set()
        hold.wait()

    line: Line[int] = Line(work, lambda item: item % 2, size=2, wait=0, name="test")
    line.put(0)
    assert begun.wait(10)
    for item in (1, 2):
        line.put(item)
        assert not line.full
    line.put(3)
    assert line.full
    hold.set()
    line.close()
    assert not line.full
