import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.evaluate.pairs import ImageFile, Method
from benchmarks.evaluate.report.contact_sheet import SIDE, contact_sheet


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def images(tmp_path: Path) -> list[ImageFile]:
    found = []
    for i, name in enumerate(('<script>"&', "plain")):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (300, 200), (250 * i, 0, 250)).save(path)
        found.append(ImageFile(name, path))
    return found


@pytest.mark.parametrize("show", [False, True])
def test_originals_are_shown_when_asked_for_only(images: list[ImageFile], show: bool) -> None:
    """The originals are red and blue here, and the method's images are grey."""
    grey = images[0].path.with_name("grey.png")
    Image.new("L", (300, 200), 90).save(grey)
    method = Method("m <b>", {1: ImageFile("plain", grey)}, {images[0].name: "no face & no image"})
    page = Page(contact_sheet(images, [method], show))
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert {'<script>"&', "plain", "m <b>", "no face & no image"} <= {*page.texts}
    assert len(page.images) == 1 + 2 * show
    for image in page.images:
        kind, _, data = str(image["src"]).partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
            assert max(shown.size) == SIDE
            r, g, b = np.asarray(shown.convert("RGB"))[5, 5].astype(int)
            assert show or abs(r - g) + abs(g - b) < 12
    assert not any(word in page.tags for word in ("link", "iframe"))
