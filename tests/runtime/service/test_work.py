"""Jobs of orders: the people of the photo are all that a picture is compared with."""

from dataclasses import replace
from pathlib import Path

import pytest

from anon_runtime import Anonymizer, Settings
from anon_runtime.casting import Cast
from anon_runtime.faces.decoding import load_photo
from anon_runtime.guard.trial import Attempt
from anon_runtime.guard.words import Frequencies, coarsen
from anon_runtime.service.orders import Order, Ticket
from anon_runtime.service.work import with_photo, without_photo
from anon_runtime.types import Description, Portrait, Request


@pytest.mark.parametrize("in_place", [False, True])
def test_the_people_of_a_photo_are_those_of_a_run_over_it_alone(
    anonymizer: Anonymizer, couple: Path, in_place: bool
) -> None:
    """Coarser words depend on how many of them have an attribute."""
    photo = load_photo(couple)
    cast = anonymizer.cast(photo)
    if not in_place:
        cast = Cast(cast.people[:1])
    ticket = Ticket(Order(anonymizer, couple.read_bytes(), in_place=in_place))
    work = with_photo(ticket, cast, photo)
    assert work.crowd is not None
    having = work.crowd.frequencies.having
    assert work.crowd.reference.people == work.crowd.frequencies.people == len(cast.people)
    for name, count in having.items():
        scores = [float(one.attributes[name]) for one in cast.people]
        assert count == sum(score > 0.5 for score in scores)
    sheets = [work.sheet(sitter) for sitter in work.job.sitters]
    assert [sheet.tokenized.request.canvas is not None for sheet in sheets] == [in_place] * len(cast.people)
    work.done[sheets[0].sitter] = 3
    step = work.step(7, None)
    assert (step.done, step.total, step.attempt) == (3, 7 * len(cast.people), 0)
    work.sheet(sheets[0].sitter)
    assert work.step(7, None).done == 0, "another attempt begins at the beginning"
    rare = Frequencies(99, dict(zip(having, range(len(having)), strict=True)))
    sheets[0].sitter.trial.attempt = Attempt(3, 3)
    words = replace(work, crowd=replace(work.crowd, frequencies=rare)).sheet(sheets[0].sitter).words
    assert words == coarsen(cast.people[0].attributes, 3, rare) != coarsen(cast.people[0].attributes, 3)


def test_nobody_is_compared_without_a_guard(anonymizer: Anonymizer, couple: Path) -> None:
    unguarded, photo = anonymizer.using(Settings(guard="off")), load_photo(couple)
    ticket = Ticket(Order(unguarded, couple.read_bytes(), in_place=True))
    assert with_photo(ticket, unguarded.cast(photo), photo).crowd is None


def test_nothing_is_known_of_prompts_and_one_portrait_is_enough_without_a_photo(anonymizer: Anonymizer) -> None:
    picky = anonymizer.using(Settings(best_of=3))
    request = Request("a man", "a hat", 5)
    for described in (None, Description("", "", {"Ethnic": "asian", "Age": 31, "Male": 0.9})):
        work = without_photo(Ticket(Order(picky, request=None if described else request, seed=5)), described)
        [sitter] = work.job.sitters
        sheet = work.sheet(sitter)
        assert sheet.tokenized.request.seed == 5
        assert sheet.words == (described.attributes if described else {})
        written = sheet.tokenized.request
        work.job.accept(sitter, Portrait(None, written.prompt, written.negative_prompt, 5))  # type: ignore[arg-type]
        [judged] = work.job.results()
        assert not work.job.waiting
        assert judged.portrait.attributes == (described.attributes if described else None)
        if described is None:
            assert written == request
