"""The page in a real browser: Debian's Chromium, driven by Playwright, and looked at by axe for accessibility."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture
def page(browser: Any, serving: Running, asked: list[str]) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    found = context.new_page()
    problems: list[str] = []
    found.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.on("request", lambda request: asked.append(request.url))
    found.goto(serving.url)
    yield found
    context.close()
    assert not [text for text in problems if "422" not in text], "only refused photos may be errors"
    assert all(url.startswith((serving.url, "blob:", "data:")) for url in asked), "nothing leaves this machine"


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
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing lies beside the window"
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


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
