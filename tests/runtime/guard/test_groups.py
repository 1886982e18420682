"""Groups, and what a reader can find out about small ones from the table and its totals."""

import itertools
from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.guard.groups import (
    MINIMUM,
    OTHERS,
    Fact,
    Group,
    Grouping,
    age_band,
    choose_hidden,
    choose_merged,
    group_people,
)

facts = st.builds(
    Fact,
    st.sampled_from(["asian", "black", "indian", "white"]),
    st.sampled_from(["man", "woman"]),
    st.integers(0, 100),
    st.booleans(),
    st.integers(0, 5),
    st.none() | st.floats(-1, 1),
)
minima = st.integers(1, 12)


def people(count: int, ethnicity: str, *, released: bool = True, similarity: float | None = 0.25) -> list[Fact]:
    return [Fact(ethnicity, "man", 30, released, 0, similarity)] * count


def by_ethnicity(everybody: Sequence[Fact]) -> Grouping:
    return group_people(everybody)[0]


def test_people_are_grouped_by_three_attributes() -> None:
    everybody = people(20, "white") + [Fact("asian", "woman", 65, False, 5, 0.75)] * 20
    ethnicity, sex, age = group_people(everybody)
    assert [one.by for one in (ethnicity, sex, age)] == ["ethnicity", "sex", "age"]
    asian = Group("asian", 20, 0, 20, 20, 0.75)
    white = Group("white", 20, 20, 0, 0, 0.25)
    assert ethnicity.rows[0].name == "asian"
    assert [row.people for row in (*ethnicity.rows, *sex.rows, *age.rows)] == [20] * 6
    # Nobody of one group and everybody of the other: each count is below the minimum on one side, and is hidden.
    hidden = {"released": None, "refused": None, "retried": None}
    assert [row.__dict__ for row in ethnicity.rows] == [asian.__dict__ | hidden, white.__dict__ | hidden]


def test_age_bands_are_of_twenty_years() -> None:
    assert [age_band(age) for age in (0, 19, 20, 39, 40, 59, 60, 99)] == (
        ["0-19"] * 2 + ["20-39"] * 2 + ["40-59"] * 2 + ["60+"] * 2
    )


def test_small_groups_are_merged() -> None:
    everybody = people(5, "asian") + people(6, "black") + people(30, "white")
    assert [(row.name, row.people) for row in by_ethnicity(everybody).rows] == [("white", 30), (OTHERS, 11)]


def test_one_small_group_is_merged_with_the_next_larger_one() -> None:
    everybody = people(2, "asian") + people(15, "black") + people(30, "white")
    assert [(row.name, row.people) for row in by_ethnicity(everybody).rows] == [("white", 30), (OTHERS, 17)]


def test_a_run_of_few_people_has_no_rows() -> None:
    assert by_ethnicity(people(MINIMUM - 1, "white")).rows == ()
    assert by_ethnicity([]).rows == ()


def test_counts_without_small_cells_are_shown() -> None:
    everybody = [
        fact for name in ("asian", "white") for good in (True, False) for fact in people(10, name, released=good)
    ]
    assert [(row.released, row.refused) for row in by_ethnicity(everybody).rows] == [(10, 10), (10, 10)]


def test_a_count_of_nobody_is_shown() -> None:
    rows = by_ethnicity(people(20, "asian") + people(20, "white")).rows
    assert [(row.released, row.refused, row.retried) for row in rows] == [(20, 0, 0)] * 2


def test_medians_of_few_people_are_not_shown() -> None:
    everybody = people(9, "white") + people(20, "white", similarity=None)
    assert by_ethnicity(everybody).rows[0].similarity is None
    assert by_ethnicity([*everybody, *people(1, "white")]).rows[0].similarity == 0.25


@given(sizes=st.dictionaries(st.text(max_size=3), st.integers(1, 30), max_size=8), minimum=minima)
def test_merging_leaves_no_small_group_and_no_way_to_one(sizes: dict[str, int], minimum: int) -> None:
    merged = choose_merged(sizes, minimum)
    assert all(sizes[name] >= minimum for name in sizes if name not in merged)
    if merged and merged != set(sizes):
        assert len(merged) > 1, "the group follows from the total"
        assert sum(sizes[name] for name in merged) >= minimum
    if all(size >= minimum for size in sizes.values()):
        assert not merged


tables = st.lists(st.integers(1, 6).flatmap(lambda whole: st.tuples(st.integers(0, whole), st.just(whole))), max_size=5)


@given(table=tables, minimum=st.integers(1, 4))
def test_no_hidden_count_follows_from_the_total(table: list[tuple[int, int]], minimum: int) -> None:
    parts, wholes = [part for part, _ in table], [whole for _, whole in table]
    hidden = choose_hidden(parts, wholes, minimum)
    if sum(parts) in (0, sum(wholes)):
        assert not hidden
        return
    for i, (part, whole) in enumerate(table):
        assert i in hidden or min(part, whole - part) >= minimum, "a small count is shown"
    # The reader tries all counts of the hidden rows that give the known sum.
    rows, total = sorted(hidden), sum(parts[i] for i in hidden)
    ranges = [range(wholes[i] + 1) for i in rows]
    possible = [counts for counts in itertools.product(*ranges) if sum(counts) == total]
    if len(table) > 1:
        for place in range(len(rows)):
            assert len({counts[place] for counts in possible}) > 1, "only one count is possible"


@given(everybody=st.lists(facts, max_size=60), minimum=minima)
def test_tables_hold_everybody_once_and_no_small_cell(everybody: list[Fact], minimum: int) -> None:
    for grouping in group_people(everybody, minimum):
        assert sum(row.people for row in grouping.rows) == (len(everybody) if grouping.rows else 0)
        for row in grouping.rows:
            assert row.people >= minimum
            assert (row.released is None) == (row.refused is None)
            if row.released is not None and row.refused is not None:
                assert row.released + row.refused == row.people


@given(everybody=st.lists(facts, max_size=40), order=st.randoms(use_true_random=False))
def test_the_order_of_people_does_not_matter(everybody: list[Fact], order: Random) -> None:
    shuffled = list(everybody)
    order.shuffle(shuffled)
    assert group_people(shuffled) == group_people(everybody)
