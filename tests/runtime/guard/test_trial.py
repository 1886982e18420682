"""The sequence of attempts for one photo, against a plain list of what each attempt would give."""

import hashlib
from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from anon_runtime.errors import RefusedError
from anon_runtime.guard.decision import Finding
from anon_runtime.guard.options import GuardOptions, Mode
from anon_runtime.guard.reference import Resemblance
from anon_runtime.guard.trial import Attempt, Judged, Trial
from anon_runtime.types import MAX_SEED, Portrait

IMAGE = Image.new("RGB", (8, 8))


@dataclass(frozen=True)
class Outcome:
    """What an attempt gives."""

    passes: bool
    agreement: float = 0.0


PASS, FAIL = Outcome(True), Outcome(False)
outcomes = st.builds(Outcome, st.booleans(), st.sampled_from([0.25, 0.5, 0.75]))
runs = st.integers(1, 6).flatmap(lambda n: st.lists(outcomes, min_size=n, max_size=n))


def judge(attempt: Attempt, outcome: Outcome) -> Judged:
    finding = Finding(Resemblance(attempt.number / 10, 0.9, 1, None), *(() if outcome.passes else ("nearest", "why")))
    return Judged(attempt, Portrait(IMAGE, "", "", attempt.number), finding, None, outcome.agreement)


def play(trial: Trial, given: list[Outcome]) -> list[Attempt]:
    """Make attempts until the trial is over, and return them."""
    made = []
    while trial.attempt is not None:
        made.append(trial.attempt)
        trial.add(judge(trial.attempt, given[trial.attempt.number]))
    return made


@given(run=runs, best_of=st.integers(1, 6))
def test_attempts_go_on_until_enough_portraits_pass(run: list[Outcome], best_of: int) -> None:
    assume(best_of <= len(run))
    trial = Trial(GuardOptions(attempts=len(run), best_of=best_of))
    made = play(trial, run)
    passed = [outcome.passes for outcome in run[: len(made)]]
    assert sum(passed) == best_of or len(made) == len(run)
    assert sum(passed[:-1]) < best_of
    assert [attempt.number for attempt in made] == list(range(len(made)))
    assert [attempt.coarsening for attempt in made] == [passed[:n].count(False) for n in range(len(made))]


@given(run=runs, best_of=st.integers(1, 6))
def test_the_best_of_those_that_pass_is_released(run: list[Outcome], best_of: int) -> None:
    assume(best_of <= len(run))
    trial = Trial(GuardOptions(attempts=len(run), best_of=best_of))
    made = play(trial, run)
    good = [attempt.number for attempt in made if run[attempt.number].passes]
    if not good:
        with pytest.raises(RefusedError, match="why"):
            trial.result()
        return
    best = max(good, key=lambda number: (run[number].agreement, -number))  # the first one of equally good ones
    assert trial.result().attempt.number == best
    portrait = trial.result().portrait
    assert (portrait.seed, portrait.attempt, portrait.similarity) == (best, best, best / 10)
    assert portrait.coarsening == sum(not outcome.passes for outcome in run[:best])


@given(run=runs, best_of=st.integers(1, 6), first=st.builds(Attempt, st.integers(0, 9), st.integers(0, 9)))
def test_a_trial_may_begin_with_a_later_attempt(run: list[Outcome], best_of: int, first: Attempt) -> None:
    """It is the same trial, with later numbers and coarser words."""
    assume(best_of <= len(run))
    options = GuardOptions(attempts=len(run), best_of=best_of)
    plain = play(Trial(options), run)
    later = play(Trial(options, first), [PASS] * first.number + run)
    assert later == [Attempt(first.number + one.number, first.coarsening + one.coarsening) for one in plain]


@given(run=runs, mode=st.sampled_from(["report", "off"]))
def test_a_report_refuses_nothing(run: list[Outcome], mode: Mode) -> None:
    trial = Trial(GuardOptions(mode, attempts=len(run)))
    assert play(trial, run) == [Attempt(0, 0)]
    assert trial.result().attempt == Attempt(0, 0)
    assert (trial.result().finding.cause is None) == run[0].passes


def test_the_best_of_a_report_is_the_best_of_all() -> None:
    trial = Trial(GuardOptions("report", best_of=3))
    assert play(trial, [FAIL, Outcome(True, 0.5), FAIL]) == [Attempt(0, 0), Attempt(1, 0), Attempt(2, 0)]
    assert trial.result().attempt.number == 1


@pytest.mark.parametrize(("attempts", "times"), [(1, "its only portrait: why"), (6, "all of its 6 portraits: why")])
def test_a_photo_without_a_portrait_that_passes_is_refused(attempts: int, times: str) -> None:
    trial = Trial(GuardOptions(attempts=attempts))
    assert play(trial, [FAIL] * 6) == [Attempt(number, number) for number in range(attempts)]
    with pytest.raises(RefusedError, match=f"the guard refused {times}; allow more `attempts`"):
        trial.result()
    assert trial.last.attempt.number == attempts - 1


def test_a_portrait_without_a_face_has_no_similarity() -> None:
    trial = Trial(GuardOptions("report"))
    assert trial.attempt is not None
    trial.add(Judged(trial.attempt, Portrait(IMAGE, "", "", 0), Finding(None, "no face", "no face is found")))
    assert trial.result().portrait.similarity is None


def test_before_the_first_portrait_there_is_none() -> None:
    with pytest.raises(RuntimeError, match="no portrait was judged yet"):
        _ = Trial(GuardOptions()).last


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (0, [3369130936, 2264084112, 2036913224]),
        (42, [1295131525, 611616411, 2011592163]),
        (MAX_SEED, [4134251907, 4280710059, 296782269]),
    ],
)
def test_seeds_never_change(first: int, later: list[int]) -> None:
    """Another version of this project has to paint the same portraits again."""
    assert [Attempt(number, 3).seed(first) for number in range(4)] == [first, *later]
    text = f"attempt 1 after {first}".encode()
    assert later[0] == int(hashlib.sha256(text).hexdigest()[:8], 16)


@given(first=st.integers(0, MAX_SEED), numbers=st.sets(st.integers(0, 50), min_size=2, max_size=2))
def test_seeds_are_in_range_and_do_not_depend_on_the_words(first: int, numbers: set[int]) -> None:
    one, other = (Attempt(number, 0) for number in numbers)
    assert 0 <= one.seed(first) <= MAX_SEED
    assert one.seed(first) == Attempt(one.number, 5).seed(first)
    assert one.seed(first) != other.seed(first)


@given(run=runs, taken_back=st.integers(0, 6))
def test_a_portrait_that_is_taken_back_counts_as_one_that_failed(run: list[Outcome], taken_back: int) -> None:
    """Taking back is as if the attempt had failed from the start."""
    options = GuardOptions(attempts=len(run), best_of=1)
    trial, plain, left = Trial(options), Trial(options), taken_back
    given = list(run)
    made = play(trial, run)
    while not trial.refused and left:
        given[trial.result().attempt.number] = FAIL
        trial.reject(Finding(None, "own original", "it is in the photo"))
        left -= 1
        made += play(trial, run)
    assert made == play(plain, given)
    assert trial.refused == plain.refused
    if not trial.refused:
        assert trial.result().attempt == plain.result().attempt
    elif taken_back:
        assert trial.last.finding.cause is not None
