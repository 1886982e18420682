"""The page is one file, shows the answer first, and takes names for text."""

import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.packages
pytest.importorskip("markdown")
from benchmarks.evaluate.report.markdown import lines  # noqa: E402
from benchmarks.evaluate.report.page import render  # noqa: E402


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        own = dict(attrs)
        if tag == "img":
            self.images.append(own["src"] or "")
            assert own["alt"]
        self.links += [own[name] or "" for name in ("href", "src") if name in own]


@pytest.fixture
def page(tmp_path: Path) -> str:
    plots = []
    for name in ("first", "second"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
        plots.append((name, tmp_path / f"{name}.png"))
    table = "\n".join(lines(["who", "rate"], [["<script>alert(1)</script>", "a|b & c"]]))
    return render("off & <on>", "**The answer**\n\n- one", f"## Tables\n\n{table}\n", plots)


def test_it_needs_no_other_file(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    assert len(reader.images) == 2
    assert all(link.startswith("data:image/png;base64,") for link in reader.links)
    assert base64.b64decode(reader.images[0].split(",")[1]).startswith(b"\x89PNG")


def test_the_answer_and_its_plot_come_first(page: str) -> None:
    places = [page.index(text) for text in ("The answer", 'alt="first"', "<h2>Tables", 'alt="second"')]
    assert places == sorted(places)
    assert "<strong>The answer</strong>" in page
    assert "<li>one</li>" in page


def test_names_are_text(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    assert "script" not in reader.tags
    assert "<title>off &amp; &lt;on&gt;</title>" in page
    assert "<td>a|b &amp; c</td>" in page
    assert reader.tags.count("td") == 2
