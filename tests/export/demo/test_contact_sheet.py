"""The image that `make demo` shows: photo, words, portrait."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from anon_export.demo.contact_sheet import draw, main, wrap
from anon_runtime.faces.attributes import CELEBA
from anon_runtime.faces.prompt import write_prompts
from anon_runtime.types import Attributes

SIDE = 192
RED, BLUE = (Image.new("RGB", size, colour) for size, colour in (((300, 300), "red"), ((96, 96), "blue")))


def with_attributes(names: set[str]) -> Attributes:
    return {"Ethnic": "latino hispanic", "Age": 32, **{name: float(name in names) for name in CELEBA}}


PEOPLE = st.sets(st.sampled_from(CELEBA)).map(with_attributes)


@given(PEOPLE)
def test_the_words_keep_to_their_third(person: Attributes) -> None:
    sheet = np.asarray(draw(RED, write_prompts(person)[0], BLUE, SIDE))
    assert sheet.shape == (SIDE, 3 * SIDE, 3)
    assert (sheet[:, :SIDE] == (255, 0, 0)).all()
    assert (sheet[:, 2 * SIDE :] == (0, 0, 255)).all()
    words = sheet[:, SIDE : 2 * SIDE]
    assert words.min() < 100, "there are words"
    border = [words[:4], words[-4:], words[:, :4].swapaxes(0, 1), words[:, -4:].swapaxes(0, 1)]
    assert all((edge == 255).all() for edge in border)


@given(PEOPLE, st.integers(100, 300))
def test_wrapping_loses_no_word(person: Attributes, width: int) -> None:
    prompt, font = write_prompts(person)[0], ImageFont.load_default(12)
    lines = wrap(prompt, font, width).split("\n")
    assert " ".join(lines).replace(",", "").split() == prompt.replace(",", "").split()
    assert all(font.getlength(line) <= width or " " not in line for line in lines)


def test_photos_of_any_shape_are_shown_whole() -> None:
    tall = Image.new("RGBA", (100, 400), "red")
    left = np.asarray(draw(tall, "a", BLUE, SIDE))[:, :SIDE]
    assert (left[:, SIDE // 2] == (255, 0, 0)).all()
    assert (left[:, :60] == 255).all()
    assert (left[:, -60:] == 255).all()


def test_the_command_draws_what_a_run_tells(tmp_path: Path) -> None:
    RED.save(tmp_path / "photo.png")
    BLUE.save(tmp_path / "portrait.png")
    result = {
        "input": f"{tmp_path}/photo.png",
        "output": f"{tmp_path}/portrait.png",
        "status": "ok",
        "prompt": "a man, ",
    }
    done = CliRunner().invoke(main, [str(tmp_path / "sheet.png")], input=json.dumps(result) + "\n")
    assert done.exit_code == 0, done.output
    assert f"{tmp_path}/portrait.png" in done.output
    assert f"{tmp_path}/sheet.png" in done.output
    assert "holds the original photo" in done.output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 3 * sheet.height
        assert sheet.getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize("line", ["", json.dumps({"status": "error", "reason": "no face"})])
def test_without_a_portrait_there_is_no_image(tmp_path: Path, line: str) -> None:
    done = CliRunner().invoke(main, [str(tmp_path / "sheet.png")], input=line)
    assert done.exit_code == 1
    assert "no portrait" in done.output
    assert not list(tmp_path.iterdir())
