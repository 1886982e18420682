from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.guard.decision import Limits, decide, set_limits
from anon_runtime.guard.options import GuardOptions
from anon_runtime.guard.reference import Resemblance
from anon_runtime.guard.thresholds import Threshold, find_threshold, lowest_carried_rate
from tests.runtime.guard.calibrations import calibration


def threshold(value: float, carried: bool = True) -> Threshold:
    return Threshold(value, value, value, 0.01, carried)


LIMITS = Limits(own=threshold(0.5), others=threshold(0.8), min_rank=5, link=0.7)
FINE = Resemblance(own=0.4, own_best=0.4, rank=6, nearest=0.7)


@given(people=st.integers(0, 10**9), fmr=st.floats(1e-9, 0.5), min_rank=st.integers(0, 100))
def test_limits_follow_from_the_number_of_people(people: int, fmr: float, min_rank: int) -> None:
    measured = calibration()
    limits = set_limits(measured, GuardOptions(fmr=fmr, min_rank=min_rank), people)
    assert limits.own == find_threshold(measured, fmr)
    assert limits.others == find_threshold(measured, fmr / people if people else fmr)
    assert limits.min_rank <= people / 20
    assert limits.min_rank == min_rank or limits.min_rank + 1 > people / 20
    linking = find_threshold(measured, lowest_carried_rate(measured))
    assert limits.link == (limits.others.value if limits.others.carried else linking.value)


@pytest.mark.parametrize(("people", "rank"), [(0, 0), (19, 0), (20, 1), (39, 1), (99, 4), (100, 5), (10**6, 5)])
def test_few_people_have_no_rank(people: int, rank: int) -> None:
    assert set_limits(calibration(), GuardOptions(), people).min_rank == rank


def test_a_threshold_that_the_data_do_not_carry_is_marked() -> None:
    """The calibration has 10,000 pairs: a tenth of a pair is expected at a rate of 1e-5."""
    options = GuardOptions(fmr=1e-2)
    assert set_limits(calibration(), options, 900).others.carried
    assert not set_limits(calibration(), options, 1100).others.carried
    assert set_limits(calibration(), options, 1100).own.carried


def test_a_portrait_that_keeps_to_all_limits_passes() -> None:
    finding = decide(1, FINE, LIMITS)
    assert (finding.cause, finding.reason, finding.resemblance) == (None, "", FINE)


@pytest.mark.parametrize(
    ("changes", "cause", "reason"),
    [
        ({"own_best": 0.5}, "own original", "it resembles its original (similarity 0.50; 0.50 is the limit)"),
        ({"own_best": 0.49}, None, ""),
        ({"own": 0.3, "own_best": 0.6}, "own original", "(similarity 0.60; 0.50 is the limit)"),
        ({"rank": 1}, "nearest", "its original is number 1 of those whom it resembles most (number 6 is the limit)"),
        ({"rank": 5}, "nearest", "its original is number 5"),
        ({"nearest": 0.8}, "another person", "it resembles another person (similarity 0.80; 0.80 is the limit)"),
        ({"nearest": 0.79}, None, ""),
        ({"nearest": None}, None, ""),
        ({"own_best": 0.9, "rank": 1, "nearest": 0.9}, "own original", ""),
        ({"rank": 1, "nearest": 0.9}, "nearest", ""),
    ],
)
def test_each_limit_refuses(changes: dict[str, float | None], cause: str | None, reason: str) -> None:
    resemblance = Resemblance(**{**vars(FINE), **changes})
    finding = decide(1, resemblance, LIMITS)
    assert (finding.cause, finding.resemblance) == (cause, resemblance)
    assert reason in finding.reason
    assert bool(finding.reason) == (cause is not None)


def test_without_a_limit_of_the_rank_the_nearest_may_be_the_own_original() -> None:
    assert decide(1, replace(FINE, rank=1), replace(LIMITS, min_rank=0)).cause is None


@given(nearest=st.floats(-1, 1), limit=st.floats(-1, 2))
def test_a_threshold_that_is_not_carried_refuses_nobody(nearest: float, limit: float) -> None:
    limits = replace(LIMITS, others=threshold(limit, carried=False))
    assert decide(1, replace(FINE, nearest=nearest), limits).cause is None


@pytest.mark.parametrize(
    ("faces", "cause", "reason"),
    [
        (0, "no face", "no face is found in it, so that it cannot be checked"),
        (2, "several faces", "it shows 2 faces, so that nobody can tell whom it resembles"),
    ],
)
def test_a_portrait_without_its_one_face_is_refused(faces: int, cause: str, reason: str) -> None:
    finding = decide(faces, None, LIMITS)
    assert (finding.cause, finding.reason, finding.resemblance) == (cause, reason, None)
