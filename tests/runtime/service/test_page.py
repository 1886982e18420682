"""The page in a real browser: Debian's Chromium, driven by Playwright, and looked at by axe for accessibility."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from anon_runtime.folder.journal_file import NAME, JournalFile
from tests.runtime.folder.journals import pseudonym
from tests.runtime.runs import decide_about

from .conftest import Running

pytestmark = pytest.mark.packages
sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = shutil.which("chromium")
# Chromium looks for servers of its maker otherwise.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture
def asked() -> list[str]:
    """The addresses that the page has asked for."""
    return []


@contextmanager
def opened(browser: Any, url: str, asked: list[str]) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    found = context.new_page()
    problems: list[str] = []
    found.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.on("request", lambda request: asked.append(request.url))
    found.goto(url)
    yield found
    context.close()
    assert not [text for text in problems if "422" not in text and "409" not in text], "only refusals may be errors"
    own = (url.partition("#")[0], "blob:", "data:")
    assert all(address.startswith(own) for address in asked), "nothing leaves this machine"


@pytest.fixture
def page(browser: Any, serving: Running, asked: list[str]) -> Iterator[Any]:
    with opened(browser, serving.url, asked) as found:
        yield found


@pytest.fixture
def review(browser: Any, reviewing: Running, asked: list[str]) -> Iterator[Any]:
    """The tab for a review."""
    with opened(browser, f"{reviewing.url}/#review", asked) as found:
        found.get_by_role("heading", name="Portrait 1 of 3").wait_for()
        yield found


def choose(page: Any, photo: Path) -> None:
    page.get_by_label("Choose a photo").set_input_files(photo)
    page.get_by_role("heading", name="2. Words").wait_for()


def test_a_photo_is_read_changed_and_painted(page: Any, serving: Running, astronaut: Path, tmp_path: Path) -> None:
    choose(page, astronaut)
    assert page.locator("#box").is_visible()
    assert page.get_by_label("Age in years").input_value() == "32"
    hat = page.get_by_label("Wearing Hat", exact=True)
    assert not hat.is_checked()
    hat.check()
    page.get_by_label("Age in years").fill("61")
    page.get_by_label("First seed").fill("18446744073709551614")
    page.get_by_label("Portraits", exact=True).first.fill("2")
    page.get_by_label("Steps").fill("3")
    page.get_by_role("button", name="Paint").click()
    page.get_by_text("All portraits are done").wait_for()
    notes = page.locator(".candidate .note").all_inner_texts()
    assert len(notes) == 2
    assert all("similarity" in note and "of the attributes agree" in note for note in notes)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").first.click()
    assert download.value.suggested_filename == "portrait-18446744073709551614.png"
    download.value.save_as(tmp_path / "portrait.png")
    words = serving.client.post("/v1/descriptions", files={"photo": astronaut.read_bytes()}).json()["attributes"]
    parts = [
        ("photo", ("x", astronaut.read_bytes())),
        ("attributes", (None, page.evaluate("own => JSON.stringify(own)", words | {"Wearing_Hat": 1, "Age": 61}))),
        ("seed", (None, "18446744073709551614")),
        ("steps", (None, "3")),
    ]
    assert (tmp_path / "portrait.png").read_bytes() == serving.client.post("/v1/portraits", files=parts).content


def test_what_was_read_comes_back(page: Any, astronaut: Path) -> None:
    choose(page, astronaut)
    page.get_by_label("Smiling", exact=True).uncheck()
    assert page.locator(".attribute.changed").count() == 1
    page.get_by_role("button", name="Back to what was read").click()
    assert page.get_by_label("Smiling", exact=True).is_checked()
    assert page.locator(".attribute.changed").count() == 0


def replace_faces(page: Any, photo: Path, steps: int) -> None:
    page.get_by_label("The photo with other faces").check()
    page.get_by_label("Choose a photo").set_input_files(photo)
    page.get_by_role("heading", name="2. The photo with other faces").wait_for()
    page.get_by_label("Steps").fill(str(steps))
    page.get_by_role("button", name="Paint").click()


def test_faces_are_replaced(page: Any, serving: Running, couple: Path, tmp_path: Path) -> None:
    replace_faces(page, couple, 2)
    page.get_by_text("The photo is done").wait_for()
    assert page.get_by_text("2 faces replaced, 0 filled; the highest similarity to an original").is_visible()
    for picture in ("The photo that you have chosen", "The photo with other faces, of seed 0"):
        assert page.get_by_role("list", name="Photos").get_by_alt_text(picture).is_visible()
    assert page.get_by_role("heading", name="2. Words").is_hidden(), "no words of one face can be changed"
    assert page.get_by_label("Portraits", exact=True).first.is_hidden()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "photo-0.png"
    download.value.save_as(tmp_path / "photo.png")
    parts: list[Any] = [("photo", ("x", couple.read_bytes())), ("steps", (None, "2"))]
    assert (tmp_path / "photo.png").read_bytes() == serving.client.post("/v1/photos", files=parts).content


def test_the_other_picture_can_be_chosen_with_the_keyboard(page: Any, couple: Path) -> None:
    choose(page, couple)
    page.get_by_label("A portrait").focus()
    page.keyboard.press("ArrowDown")
    page.get_by_role("heading", name="2. The photo with other faces").wait_for()
    assert page.get_by_role("heading", name="2. Words").is_hidden()
    page.keyboard.press("ArrowUp")
    page.get_by_role("heading", name="2. Words").wait_for()
    assert page.get_by_role("heading", name="3. Portraits").is_visible()


def test_faces_are_not_replaced_to_the_end_if_somebody_cancels(page: Any, serving: Running, couple: Path) -> None:
    replace_faces(page, couple, 50)
    page.get_by_text("Evaluation").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled").wait_for()
    assert page.get_by_role("link", name="Download").count() == 0
    assert page.get_by_alt_text("of seed").count() == 0
    assert serving.idle()


def test_a_mode_that_the_bundle_lacks_is_not_offered(browser: Any, serving: Running) -> None:
    page = browser.new_page()
    info = serving.client.get("/v1/info").json() | {"modes": ["portrait"]}
    page.route("**/v1/info", lambda route: route.fulfill(json=info))
    page.goto(serving.url)
    page.wait_for_function("document.getElementById('steps').value !== ''")
    assert page.get_by_label("A portrait").is_hidden()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_photos_with_other_faces_fit_and_are_accessible(page: Any, couple: Path, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    replace_faces(page, couple, 2)
    page.get_by_text("The photo is done").wait_for()
    check_fit(page)


def test_a_portrait_is_cancelled(page: Any, serving: Running, astronaut: Path) -> None:
    choose(page, astronaut)
    page.get_by_label("Portraits", exact=True).first.fill("1")
    page.get_by_label("Steps").fill("50")
    page.get_by_role("button", name="Paint").click()
    page.get_by_alt_text("A preview").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled").wait_for()
    assert page.get_by_role("link", name="Download").count() == 0
    assert serving.idle()


def test_a_photo_without_a_face_is_explained(page: Any, coffee: Path) -> None:
    page.get_by_label("Choose a photo").set_input_files(coffee)
    page.get_by_role("alert").get_by_text("no face was found in it").wait_for()
    assert page.get_by_role("heading", name="2. Words").is_hidden()


def test_the_keyboard_is_enough(page: Any, astronaut: Path) -> None:
    choose(page, astronaut)
    page.get_by_label("Steps").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("2")
    seen = []
    for _ in range(2):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id"))
    assert seen == ["fast", "go"]
    page.keyboard.press("Enter")
    page.get_by_text("All portraits are done").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_it_fits_and_is_accessible(page: Any, astronaut: Path, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    choose(page, astronaut)
    page.get_by_label("Portraits", exact=True).first.fill("2")
    page.get_by_label("Steps").fill("2")
    page.get_by_role("button", name="Paint").click()
    page.get_by_text("All portraits are done").wait_for()
    check_fit(page)


def check_fit(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing lies beside the window"
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_without_a_folder_there_is_no_review(page: Any) -> None:
    page.get_by_role("heading", name="1. Photo").wait_for()
    assert page.get_by_role("link", name="Review").count() == 0
    page.evaluate("location.hash = '#review'")
    assert page.get_by_role("heading", name="1. Photo").is_visible()


def journal(reviewed: Path) -> list[tuple[str, ...]]:
    """The decisions: photo, verdict, person and reason."""
    lines = [json.loads(line) for line in (reviewed / NAME).read_text().splitlines()]
    found = [line["decision"] for line in lines if "decision" in line]
    return [(one["id"], one["verdict"], one["by"], one["reason"]) for one in found]


def test_portraits_are_accepted_refused_and_sent_back(review: Any, reviewed: Path) -> None:
    facts = review.locator("#facts")
    assert "closeup portrait photo of a woman" in facts.inner_text()
    assert "0.30; the guard's limit is 0.54" in facts.inner_text()
    review.get_by_role("button", name="Refuse").click()
    review.get_by_text("Write your name first").wait_for()
    review.get_by_label("Your name").fill("Ada")
    review.get_by_role("button", name="Refuse").click()
    review.get_by_text("Write a reason first").wait_for()
    assert journal(reviewed) == [], "nothing was decided yet"
    review.keyboard.type("It is distorted.")
    review.keyboard.press("Enter")
    review.get_by_text("The portrait is refused. 2 are not decided.").wait_for()
    review.get_by_text("read from the portrait").wait_for()
    review.get_by_role("button", name="Accept").click()
    review.get_by_text("The portrait is accepted. 1 are not decided.").wait_for()
    review.get_by_label("Reason").fill("It looks like Bob.")
    review.get_by_role("button", name="Paint again").click()
    review.get_by_text("There is no such portrait").wait_for()
    assert journal(reviewed) == [
        (pseudonym(0), "refuse", "Ada", "It is distorted."),
        (pseudonym(1), "accept", "Ada", ""),
        (pseudonym(2), "repaint", "Ada", "It looks like Bob."),
    ]
    assert [path.stem for path in reviewed.glob("*.png")] == [pseudonym(1)]
    review.get_by_label("Show the portraits").select_option("refuse")
    review.get_by_text("There is no portrait.").wait_for()
    assert "refused by Ada" in facts.inner_text()
    assert "It is distorted." in facts.inner_text()


def test_keys_decide_only_if_wanted(review: Any, reviewed: Path) -> None:
    review.get_by_label("Your name").fill("Ada")
    keys = review.get_by_label("Use keys")
    keys.focus()
    review.keyboard.press("a")
    keys.check()
    assert journal(reviewed) == []
    review.keyboard.press("ArrowRight")
    review.get_by_role("heading", name="Portrait 2 of 3").wait_for()
    review.keyboard.press("ArrowRight")
    review.get_by_role("heading", name="Portrait 3 of 3").wait_for()
    review.keyboard.press("ArrowLeft")
    review.get_by_role("heading", name="Portrait 2 of 3").wait_for()
    review.keyboard.press("a")
    review.get_by_text("The portrait is accepted").wait_for()
    assert review.get_by_role("heading", name="Portrait 2 of 2").is_visible()
    review.keyboard.press("r")
    review.keyboard.type("raw: r is a letter here")
    review.keyboard.press("Enter")
    review.get_by_text("The portrait is refused").wait_for()
    assert review.get_by_role("heading", name="Portrait 1 of 1").is_visible()
    review.keyboard.press("p")
    review.keyboard.press("Tab")
    review.keyboard.press("Escape")
    told = [one[:2] + one[3:] for one in journal(reviewed)]
    assert told == [(pseudonym(1), "accept", ""), (pseudonym(2), "refuse", "raw: r is a letter here")]


def test_a_decision_that_cannot_be_kept_is_told(review: Any, reviewed: Path) -> None:
    review.get_by_label("Your name").fill("Ada")
    with closing(JournalFile(reviewed)):
        review.get_by_role("button", name="Accept").click()
        review.get_by_role("alert").get_by_text("another run is writing into it").wait_for()
    assert review.get_by_role("heading", name="Portrait 1 of 3").is_visible()
    decide_about(reviewed, f"{pseudonym(0)}.png", "accept")
    review.get_by_role("button", name="Accept").click()
    review.get_by_role("alert").get_by_text("somebody has decided about it meanwhile").wait_for()
    assert review.get_by_role("heading", name="Portrait 1 of 2").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_the_review_fits_and_is_accessible(review: Any, width: int, scheme: str) -> None:
    review.set_viewport_size({"width": width, "height": 900})
    review.emulate_media(color_scheme=scheme)
    review.get_by_alt_text("The portrait").wait_for()
    check_fit(review)


def test_a_token_is_asked_for(browser: Any, anonymizer: Any) -> None:
    from anon_runtime.service.options import Access, ServiceOptions

    from .conftest import running

    with running(anonymizer, ServiceOptions(), Access("a-token-of-many-letters")) as serving:
        page = browser.new_page()
        page.goto(serving.url)
        page.get_by_label("The token of this service").fill("a-token-of-many-letters")
        page.get_by_role("button", name="Continue").click()
        page.get_by_label("The token of this service").wait_for(state="hidden")
        assert page.get_by_role("alert").is_hidden()
        page.close()
