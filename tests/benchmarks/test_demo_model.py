"""The figures of the demo's networks, on cases whose answer is known."""

import pytest
from benchmarks.demo_model import Figure, overlap


def test_overlap_of_boxes() -> None:
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (20, 0, 10, 10)) == 0


def test_a_missed_goal_is_said() -> None:
    assert "missed" in Figure("a", 0.5, 0.75).line() and "missed" not in Figure("a", 0.8, 0.75).line()
    assert "missed" in Figure("a", 0.5, 0.1, most=True).line() and "missed" not in Figure("a", 0.5).line()
