"""The studio without a server, with engines that are stand-ins or the demo's."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from anon_runtime import Anonymizer, Settings
from anon_runtime.diffusion.generator import Generator
from anon_runtime.errors import BackendError, GenerationError, UsageError
from anon_runtime.service.options import ServiceOptions
from anon_runtime.service.studio import ClosingError, Order, Studio
from anon_runtime.types import Portrait, Request


@pytest.fixture
def studio() -> Iterator[Studio]:
    found = Studio(ServiceOptions(batch_size=3, wait=0.2))
    yield found
    found.close()


@pytest.fixture
def quick(anonymizer: Anonymizer) -> Anonymizer:
    return anonymizer.using(Settings(steps=1))


def order(anonymizer: Anonymizer, prompt: str) -> Order:
    return Order(anonymizer, request=Request(prompt))


def test_portraits_are_painted_together_where_they_fit(
    quick: Anonymizer, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single one is painted twice: libraries add in another order if a batch holds only one."""
    batches: list[list[str]] = []
    real = Generator.generate

    def generate(self: Generator, requests: Sequence[Any], **options: Any) -> list[Portrait]:
        batches.append([one.request.prompt for one in requests])
        return real(self, requests, **options)

    monkeypatch.setattr(Generator, "generate", generate)
    prompts = ["a", "b", " ".join(["long"] * 100), "c"]
    for future in [studio.submit(order(quick, prompt)) for prompt in prompts]:
        assert future.result(60).portrait is not None
    assert batches == [["a", "b", "c"], [prompts[2]] * 2]


def test_one_that_fails_does_not_make_others_fail(
    quick: Anonymizer, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Generator.generate

    def generate(self: Generator, requests: Sequence[Any], **options: Any) -> list[Portrait]:
        if any(one.request.prompt == "bad" for one in requests):
            raise GenerationError("the unet engine", "it returned NaN", "try again")
        return real(self, requests, **options)

    monkeypatch.setattr(Generator, "generate", generate)
    good, bad, other = (studio.submit(order(quick, prompt)) for prompt in ("good", "bad", "other"))
    assert good.result(60).portrait is not None
    with pytest.raises(BackendError, match="NaN"):
        bad.result(60)
    assert other.result(60).portrait is not None


def test_closing_finishes_what_was_taken_and_takes_no_more(quick: Anonymizer) -> None:
    others = set(threading.enumerate())
    studio = Studio(ServiceOptions(batch_size=2, wait=0))
    futures = [studio.submit(order(quick, str(number))) for number in range(5)]
    studio.close()
    assert all(future.done() and future.result().portrait for future in futures)
    with pytest.raises(ClosingError):
        studio.submit(order(quick, "late"))
    assert {thread.name for thread in set(threading.enumerate()) - others}.isdisjoint({"reading", "painting"})


def test_an_order_without_anything_is_refused(quick: Anonymizer, studio: Studio) -> None:
    with pytest.raises(UsageError, match="neither a photo nor attributes"):
        studio.submit(Order(quick))
    assert studio.active == 0
