"""Comparisons with a set of people, against plain Python's whole numbers, which are exact."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anon_runtime.faces.identity import UNIT, round_embedding
from anon_runtime.guard.reference import Resemblance, make_reference
from anon_runtime.types import Floats

WIDTH = 4
# Whole numbers of a few values only, so that equal faces, equal similarities and opposite faces occur often.
vectors = st.lists(st.integers(-2, 2), min_size=WIDTH, max_size=WIDTH).filter(any)
faces = vectors.map(lambda vector: round_embedding(np.array(vector, np.float64)))
links = st.floats(-1.01, 1.01) | st.tuples(faces, faces).map(lambda pair: exact(*pair))


def crowd(rows: list[Floats]) -> Floats:
    return np.array(rows, np.float32).reshape(-1, WIDTH)


crowds = st.lists(faces, max_size=12).map(crowd)
cases = st.lists(st.tuples(faces, faces), min_size=1, max_size=5)


def exact(one: Floats, other: Floats) -> float:
    """The similarity of two faces, without any rounding."""
    products = (int(a * UNIT) * int(b * UNIT) for a, b in zip(one.tolist(), other.tolist(), strict=True))
    return sum(products) / UNIT**2


def slow(people: set[tuple[float, ...]], portrait: Floats, original: Floats, link: float) -> Resemblance:
    """The resemblance, one person after the other."""
    own = best = exact(portrait, original)
    others = []
    for person in people:
        row = np.array(person, np.float32)
        similarity = exact(portrait, row)
        if exact(original, row) >= np.float32(link):
            best = max(best, similarity)
        else:
            others.append(similarity)
    return Resemblance(own, best, 1 + sum(other > best for other in others), max(others, default=None))


def people_in(rows: Floats) -> set[tuple[float, ...]]:
    return {tuple(row) for row in (rows + 0.0).tolist()}


@given(rows=crowds, data=st.data())
def test_the_set_depends_on_no_order_and_no_repetition(rows: Floats, data: st.DataObject) -> None:
    reference = make_reference(rows)
    order = data.draw(st.permutations(range(len(rows))))
    signs = np.where(rows == 0, np.float32(-0.0), rows)
    for other in (make_reference(part) for part in (rows[order], np.concatenate([rows, rows[order]]), signs)):
        assert other.rows.tobytes() == reference.rows.tobytes()
        assert other.digest(b"key") == reference.digest(b"key")
    assert people_in(reference.rows) == people_in(rows)
    assert reference.people == len(people_in(rows))
    assert not np.signbit(reference.rows[reference.rows == 0]).any()


@given(one=crowds, other=crowds)
def test_the_digest_tells_whether_sets_are_equal(one: Floats, other: Floats) -> None:
    digests = [make_reference(rows).digest(b"key") for rows in (one, other)]
    assert (digests[0] == digests[1]) == (people_in(one) == people_in(other))


def test_the_digest_needs_the_key() -> None:
    reference = make_reference(np.eye(WIDTH, dtype=np.float32))
    digest = reference.digest(b"key")
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    assert reference.digest(b"another key") != digest


@given(rows=crowds, compared=cases, link=links)
def test_comparisons_are_those_of_plain_python(
    rows: Floats, compared: list[tuple[Floats, Floats]], link: float
) -> None:
    portraits, originals = (np.stack(side) for side in zip(*compared, strict=True))
    found = make_reference(rows).compare(portraits, originals, link)
    assert found == [slow(people_in(rows), portrait, original, link) for portrait, original in compared]


def test_a_second_photo_of_the_own_person_is_nobody_else() -> None:
    """The portrait resembles both photos of its person more than anybody else."""
    original, second, other = (
        round_embedding(np.array(v, np.float64)) for v in ([9, 1, 0, 0], [8, 3, 0, 0], [0, 9, 1, 0])
    )
    portrait = round_embedding(np.array([7, 5, 0, 0], np.float64))
    reference = make_reference(np.stack([original, second, other]))
    apart, linked = (reference.compare(portrait[None], original[None], link)[0] for link in (1.5, 0.9))
    assert (apart.own, apart.own_best, apart.rank) == (linked.own, linked.own, 2)
    assert (linked.own_best, linked.rank) == (exact(portrait, second), 1)
    assert (apart.nearest, linked.nearest) == (exact(portrait, second), exact(portrait, other))


def test_without_another_person_there_is_no_nearest() -> None:
    face = round_embedding(np.ones(WIDTH))
    for people in (face[None], np.empty((0, WIDTH), np.float32)):
        found = make_reference(people).compare(face[None], face[None], 0.9)[0]
        assert (found.rank, found.nearest, found.own_best) == (1, None, found.own)


def test_the_opposite_face_is_another_person() -> None:
    """Rounding made these embeddings a little longer than 1."""
    face = round_embedding(np.array([1, 2, 0, 0], np.float64))
    found = make_reference(-face[None]).compare(face[None], face[None], 0.9)[0]
    assert found.nearest == exact(face, -face)
    assert found.nearest < -1


@given(seed=st.integers(0, 2**32 - 1), people=st.integers(1, 300), width=st.sampled_from([128, 512]))
def test_a_portrait_of_a_batch_is_compared_as_if_it_were_alone(seed: int, people: int, width: int) -> None:
    """Bit for bit, because the products of rounded embeddings are exact."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([round_embedding(row) for row in rng.standard_normal((people + 16, width))])
    reference, portraits, originals = make_reference(drawn[16:]), drawn[:8], drawn[8:16]
    together = reference.compare(portraits, originals, 0.1)
    for i, found in enumerate(together):
        assert reference.compare(portraits[i : i + 1], originals[i : i + 1], 0.1) == [found]
    assert together[0].own == exact(portraits[0], originals[0])


def test_nobody_is_a_set_as_well() -> None:
    assert make_reference(np.empty((0, WIDTH), np.float32)).rows.shape == (0, WIDTH)
