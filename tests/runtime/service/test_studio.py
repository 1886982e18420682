"""The studio without a server, with engines that are stand-ins or the demo's."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anon_runtime import Anonymizer, Settings
from anon_runtime.casting import face_of
from anon_runtime.diffusion.generator import Generator
from anon_runtime.diffusion.samplers import State
from anon_runtime.errors import BackendError, BundleError, GenerationError, RefusedError, UsageError
from anon_runtime.faces.decoding import load_photo
from anon_runtime.guard.inspector import Inspector, Seen
from anon_runtime.service.options import ServiceOptions
from anon_runtime.service.orders import Order, Result, Step
from anon_runtime.service.studio import ClosingError, Studio
from anon_runtime.types import Array, Arrays, Pixels, Portrait, Request, Retouched
from tests.runtime.runs import QUICK
from tests.runtime.stand_ins import StandInEngines


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
        assert future.result(60).picture
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
    assert good.result(60).picture
    with pytest.raises(BackendError, match="NaN"):
        bad.result(60)
    assert other.result(60).picture


def test_closing_finishes_what_was_taken_and_takes_no_more(quick: Anonymizer) -> None:
    others = set(threading.enumerate())
    studio = Studio(ServiceOptions(batch_size=2, wait=0))
    futures = [studio.submit(order(quick, str(number))) for number in range(5)]
    studio.close()
    assert all(future.done() and future.result().picture for future in futures)
    with pytest.raises(ClosingError):
        studio.submit(order(quick, "late"))
    assert {thread.name for thread in set(threading.enumerate()) - others}.isdisjoint(
        {"opening", "reading", "painting"}
    )


def test_an_order_without_anything_is_refused(quick: Anonymizer, studio: Studio) -> None:
    with pytest.raises(UsageError, match="neither a photo nor attributes"):
        studio.submit(Order(quick))
    assert studio.active == 0


def test_a_photo_is_not_read_where_faces_cannot_be_replaced(anonymizer: Anonymizer, studio: Studio) -> None:
    class Lacking(StandInEngines):
        def require(self, *roles: str) -> None:
            if "vae_encoder" in roles:
                raise BundleError("bundle", "it has no vae_encoder engine", "build it again")

    lacking = Anonymizer.of(Lacking(anonymizer.engines.bundle))
    with pytest.raises(BundleError, match="no vae_encoder engine"):
        studio.submit(Order(lacking, b"this is no photo", in_place=True))
    assert studio.active == 0


def in_place(anonymizer: Anonymizer, photo: Path, seed: int = 0) -> Order:
    return Order(anonymizer, photo.read_bytes(), seed=seed, in_place=True)


def pixels_of(result: Result) -> Pixels:
    return np.asarray(result.picture.image)


def test_faces_are_replaced_as_without_a_service(anonymizer: Anonymizer, couple: Path) -> None:
    """Of two faces that are painted one by one, as `replace_faces` paints them if a batch holds one."""
    quick = anonymizer.using(Settings(steps=2))
    studio = Studio(ServiceOptions(batch_size=2))
    result = studio.submit(in_place(quick, couple)).result(60)
    studio.close()
    expected = quick.replace_faces(couple, seed=result.seed)
    np.testing.assert_array_equal(pixels_of(result), np.asarray(expected.image))
    assert isinstance(result.product, Retouched)
    assert [one.face for one in result.product.people] == [one.face for one in expected.people]
    assert [one.similarity for one in result.product.people] == [one.similarity for one in expected.people]


def test_a_photo_with_nobody_to_paint_is_filled(anonymizer: Anonymizer, couple: Path) -> None:
    quick = anonymizer.using(Settings(steps=1, min_face=150))
    studio = Studio(ServiceOptions())
    result = studio.submit(in_place(quick, couple)).result(60)
    studio.close()
    assert isinstance(result.product, Retouched)
    assert (len(result.product.people), len(result.product.filled)) == (0, 2)


def test_portraits_and_photos_at_the_same_time_do_not_mix_up(
    anonymizer: Anonymizer, couple: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[set[tuple[int, bool]]] = []
    real = Generator.generate

    def generate(self: Generator, requests: Sequence[Any], **options: Any) -> list[Portrait]:
        kinds.append({one.kind for one in requests})
        return real(self, requests, **options)

    monkeypatch.setattr(Generator, "generate", generate)
    quick = anonymizer.using(Settings(steps=2))
    orders = [in_place(quick, couple, seed) for seed in range(2)]
    orders += [Order(quick, couple.read_bytes(), seed=seed) for seed in range(2)]
    orders += [Order(quick, request=Request("a man", seed=seed)) for seed in range(2)]
    studio = Studio(ServiceOptions(batch_size=2))
    alone = [pixels_of(studio.submit(one).result(60)) for one in orders]
    together = [studio.submit(one) for one in orders]
    for expected, future in zip(alone, together, strict=True):
        np.testing.assert_array_equal(pixels_of(future.result(120)), expected)
    studio.close()
    assert all(len(some) == 1 for some in kinds), "what has a canvas is never painted with what has none"


def test_cancelling_between_two_faces_ends_the_work(
    anonymizer: Anonymizer, couple: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second face is begun and not painted to its end, and the next order is worked on."""
    evaluations: list[int] = []
    real = Generator.generate

    def generate(self: Generator, requests: Any, *, after: Any) -> list[Portrait]:
        def counted(state: State) -> None:
            evaluations.append(state.evaluation)
            after(state)

        return real(self, requests, after=counted)

    monkeypatch.setattr(Generator, "generate", generate)
    quick, steps = anonymizer.using(Settings(steps=4)), list[Step]()
    studio, second, cancelled = Studio(ServiceOptions()), threading.Event(), threading.Event()

    def listen(step: Step) -> None:
        steps.append(step)
        if step.done == 8:
            second.set()
            assert cancelled.wait(60)

    future = studio.submit(replace(in_place(quick, couple), preview_every=1), listen)
    assert second.wait(60)
    future.cancel()
    cancelled.set()
    assert studio.submit(order(quick, "next")).result(60).picture
    studio.close()
    assert [step.done for step in steps] == list(range(1, 9))
    assert evaluations == [*range(1, 8), 1, 2, *range(1, 8)], "a face, what was under way, the next order"
    assert {step.total for step in steps} == {14}
    assert all(step.preview is None for step in steps), "it would show a part of the photo that nobody has looked at"
    assert studio.active == 0


def test_an_original_in_the_finished_photo_is_painted_once_more(
    anonymizer: Anonymizer, couple: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody of the photo is seen in the place of the second face, when all faces have passed alone."""
    quick, looks, steps = anonymizer.using(Settings(steps=2)), list[Pixels](), list[Step]()
    first, second = quick.cast(load_photo(couple)).people
    real = Inspector.see

    def see(self: Inspector, photo: Pixels) -> list[Seen]:
        looks.append(photo)
        return [Seen(face_of(second), first.embedding)] if len(looks) == 1 else real(self, photo)

    monkeypatch.setattr(Inspector, "see", see)
    studio = Studio(ServiceOptions(batch_size=2))
    result = studio.submit(in_place(quick, couple), steps.append).result(60)
    assert isinstance(result.product, Retouched)
    assert [one.attempt for one in result.product.people] == [0, 1]
    assert [(step.done, step.attempt) for step in steps] == [(2, 0), (4, 0), (6, 0), (4, 1), (5, 1), (6, 1)]
    assert (looks[0] != looks[1]).any()
    np.testing.assert_array_equal(pixels_of(result), looks[1])
    looks.clear()
    once = quick.using(Settings(steps=2, attempts=1))
    with pytest.raises(RefusedError, match="resembles one of the photo"):
        studio.submit(in_place(once, couple)).result(60)
    studio.close()


def test_a_face_that_is_found_only_at_the_end_is_never_released(own_engines: StandInEngines, couple: Path) -> None:
    """The detector sees only the larger face at first, and both of them in the finished photo."""
    calls: list[int] = []

    def blind(number: int, inputs: Mapping[str, Array]) -> Arrays | None:
        calls.append(number)
        [(name, image)] = inputs.items()
        dark = image.copy()
        dark[..., image.shape[-1] // 2 :] = 0
        return own_engines_detector({name: dark}) if number == 0 else None

    own_engines_detector = own_engines["face_detector"]
    own_engines.interfere("face_detector", blind)
    studio = Studio(ServiceOptions())
    quick = Anonymizer.of(own_engines, Settings(steps=2))
    with pytest.raises(RefusedError, match="would stay in it"):
        studio.submit(in_place(quick, couple)).result(60)
    studio.close()
    assert len(calls) == 3, "for the photo, for the face, and for the finished photo"


def test_photos_wait_where_there_is_room_for_them(
    anonymizer: Anonymizer, couple: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of two batches are open at a time, so that others take no memory."""
    quick, submitted = anonymizer.using(QUICK), threading.Event()
    futures: list[Any] = []
    opened: list[int] = []
    generate, scene_job = Generator.generate, Anonymizer.scene_job

    def held(self: Generator, requests: Sequence[Any], **options: Any) -> list[Portrait]:
        assert submitted.wait(60)
        end = time.monotonic() + 1
        while len(opened) < 3 and time.monotonic() < end:  # so long that a third one could be opened
            time.sleep(0.01)
        return generate(self, requests, **options)

    def open_job(self: Anonymizer, *arguments: Any) -> Any:
        opened.append(1 + len(opened) - sum(future.done() for future in futures))
        return scene_job(self, *arguments)

    monkeypatch.setattr(Generator, "generate", held)
    monkeypatch.setattr(Anonymizer, "scene_job", open_job)
    studio = Studio(ServiceOptions(batch_size=1))
    futures += [studio.submit(in_place(quick, couple, seed)) for seed in range(4)]
    submitted.set()
    studio.close()
    assert len(opened) == 4
    assert max(opened) == 2
    assert all(future.done() for future in futures)
