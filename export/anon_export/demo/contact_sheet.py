"""A contact sheet: one image with a photo, the prompt that describes it, and the portrait made from the prompt.

It contains the original photo and is for demonstrations only.
"""

import json
import sys
from pathlib import Path

import click
from PIL import Image, ImageDraw, ImageFont, ImageOps

LARGEST, SMALLEST = 15, 40  # heights of letters: a 15th and a 40th of the side


def draw(photo: Image.Image, prompt: str, portrait: Image.Image, side: int) -> Image.Image:
    """Photo, prompt and portrait from left to right: RGB, 3 * side x side. The letters are as large as possible."""
    sheet = Image.new("RGB", (3 * side, side), "white")
    for left, image in ((0, photo), (2 * side, portrait)):
        sheet.paste(ImageOps.pad(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC, "white"), (left, 0))
    pen, margin = ImageDraw.Draw(sheet), side // 16
    room = side - 2 * margin
    for height in range(side // LARGEST, side // SMALLEST, -1):
        font = ImageFont.load_default(height)
        text = wrap(prompt, font, room)
        *_, right, bottom = pen.multiline_textbbox((0, 0), text, font)
        if right <= room and bottom <= room:
            break
    pen.multiline_text((side + margin, margin), text, "black", font)
    return sheet


def wrap(prompt: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Break a prompt between words into lines of at most ``width`` pixels. A longer word has a line of its own."""
    phrases = [phrase.strip() for phrase in prompt.split(",")]
    lines: list[str] = []
    for word in ", ".join(phrase for phrase in phrases if phrase).split():
        joined = f"{lines[-1]} {word}" if lines else word
        lines = [*lines[:-1], joined] if font.getlength(joined) <= width else [*lines, word]
    return "\n".join(lines)


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
def main(image: Path) -> None:
    """Read a line of `anon-run --json` from standard input and draw its photo, prompt and portrait into IMAGE."""
    result = json.loads(sys.stdin.readline() or "{}")
    if result.get("status") != "ok":
        raise click.ClickException("no portrait to show: anon-run has printed the reason")
    with Image.open(result["input"]) as photo, Image.open(result["output"]) as portrait:
        draw(ImageOps.exif_transpose(photo), result["prompt"], portrait, side=384).save(image)
    click.echo(f"The portrait is in {result['output']}.")
    click.echo(f"{image} shows photo, words and portrait side by side. It holds the original photo: do not release it.")


if __name__ == "__main__":
    main()
