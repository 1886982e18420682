"""The measurements of the demo's networks, on cases whose result is known."""

import pytest

from benchmarks.demo_model import Measurement, overlap


def test_overlap_of_boxes() -> None:
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (20, 0, 10, 10)) == 0


def test_a_missed_goal_is_named() -> None:
    assert "missed" in Measurement("a", 0.5, 0.75).line()
    assert "missed" not in Measurement("a", 0.8, 0.75).line()
    assert "missed" in Measurement("a", 0.5, 0.1, lower_is_better=True).line()
    assert "missed" not in Measurement("a", 0.5).line()
