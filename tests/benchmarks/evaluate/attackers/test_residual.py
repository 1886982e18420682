import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.evaluate.attackers import residual as module
from benchmarks.evaluate.attackers.residual import SPLITS, average, figures, halves, residual
from benchmarks.evaluate.types import Mask, Vector

OUTCOMES = st.lists(st.tuples(*[st.sampled_from([0.0, 0.2, 0.5, 1.0])] * 2), min_size=2, max_size=30)


def test_a_case_by_hand() -> None:
    """Of ten people the attack succeeds on eight, and on six as control: half of what was left."""
    attacked, control = np.array([1.0] * 8 + [0] * 2), np.array([1.0] * 6 + [0] * 4)
    found = residual(attacked, control)
    assert found.value == pytest.approx((0.8 - 0.6) / (1 - 0.6))
    assert 0 <= found.low < found.value < found.high <= 1
    assert found.of == 10


def test_the_interval_is_over_people_and_shrinks_with_their_number() -> None:
    attacked, control = np.array([1.0, 1, 0, 0]), np.array([1.0, 0, 0, 0])
    few, many = (
        residual(np.tile(attacked, 25), np.tile(control, 25)),
        residual(np.tile(attacked, 400), np.tile(control, 400)),
    )
    assert few.value == many.value == pytest.approx(0.25 / 0.75)
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.2)
    # By the delta method; the two outcomes of a person are correlated.
    slopes = attacked / 0.75 + (0.5 - 1) / 0.75**2 * control
    assert few.high - few.low == pytest.approx(2 * 1.96 * slopes.std() / 10, rel=0.15)


def test_attacks_on_everybody_and_on_nobody_have_the_exact_binomial_limit() -> None:
    limit = 1 - 0.025 ** (1 / 20)
    everybody = residual(np.ones(20), np.tile([0.0, 1], 10))
    assert (everybody.value, everybody.high) == (1, 1)
    assert everybody.low == pytest.approx((1 - limit - 0.5) / 0.5)
    nobody = residual(np.zeros(20), np.zeros(20))
    assert (nobody.value, nobody.low) == (0, 0)
    assert nobody.high == pytest.approx(limit)


def test_where_the_control_always_succeeds_there_is_no_risk() -> None:
    found = residual(np.ones(20), np.ones(20))
    assert (found.value, found.low, found.high) == (0, 0, 0)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_people_have_no_risk_that_could_be_known(count: int) -> None:
    found = residual(np.ones(count), np.ones(count))
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.of == count


@settings(max_examples=30)
@given(OUTCOMES)
def test_the_risk_is_between_its_ends(outcomes: list[tuple[float, float]]) -> None:
    attacked, control = np.array(outcomes).T
    found = residual(attacked, control)
    assert 0 <= found.low <= found.high <= 1
    assert 0 <= found.value <= 1
    assert residual(attacked, attacked).value == 0
    assert found == residual(attacked, control), "it is seeded"


def test_everybody_is_attacked_once_in_each_split_and_is_the_control_once() -> None:
    parts = list(halves(11))
    assert len(parts) == 2 * SPLITS
    for first, second in zip(parts[::2], parts[1::2], strict=True):
        assert (first != second).all()
        assert abs(int(first.sum()) - int(second.sum())) == 1
    assert len({part.tobytes() for part in parts}) == 2 * SPLITS, "the splits differ"


def test_averages_keep_people_of_the_table_apart_from_the_control() -> None:
    """The attack succeeds on person 0 in the table, on person 1 as control, on person 2 always, on person 3 never."""

    def attack(half: Mask) -> tuple[Mask, Vector]:
        hits = np.array([half[0], ~half[1], True, False])
        return np.stack([hits, ~hits], axis=1), np.where(half[:, None], [0.25, 0.75], 0)

    attacked, control, baseline = average(attack, 4)
    np.testing.assert_allclose(attacked, [[1, 0], [0, 1], [1, 0], [0, 1]])
    np.testing.assert_allclose(control, [[0, 1], [1, 0], [1, 0], [0, 1]])
    np.testing.assert_allclose(baseline, [[0.25, 0.75]] * 4)


def test_figures_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    found = figures(np.array([1.0, 0]), np.array([0.0, 0]), 0.1)
    assert found["attack"]["value"] == 0.5
    assert found["control"]["value"] == 0
    assert found["baseline"] == 0.1
    assert found["risk"]["value"] == 0.5
    monkeypatch.setattr(module, "residual", lambda a, c: residual(c, a))
    assert figures(np.array([1.0, 0]), np.array([0.0, 0]), 0.1)["risk"]["value"] == 0
