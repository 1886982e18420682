"""One image that shows a photo, the words that were read from it, and the portrait that was generated from them.

It holds the photo: it is for demonstrations, and nothing else here writes one.
"""

import json
import sys
from pathlib import Path

import click
from PIL import Image, ImageDraw, ImageFont, ImageOps

LARGEST, SMALLEST = 15, 40  # letters: a 15th and a 40th of the side


def draw(photo: Image.Image, prompt: str, portrait: Image.Image, side: int) -> Image.Image:
    """Photo, prompt in letters as large as it allows, and portrait from left to right: RGB, 3 * side x side."""
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
    """A prompt in lines of at most ``width`` pixels, broken between words; a word that is longer has its own line."""
    phrases = [phrase.strip() for phrase in prompt.split(",")]
    lines: list[str] = []
    for word in ", ".join(phrase for phrase in phrases if phrase).split():
        joined = f"{lines[-1]} {word}" if lines else word
        lines = [*lines[:-1], joined] if font.getlength(joined) <= width else [*lines, word]
    return "\n".join(lines)


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
def main(image: Path) -> None:
    """Draw into IMAGE what a line of `anon-run --json`, on standard input, tells of: photo, words and portrait."""
    result = json.loads(sys.stdin.readline() or "{}")
    if result.get("status") != "ok":
        raise click.ClickException("no portrait to show: anon-run says why above")
    with Image.open(result["input"]) as photo, Image.open(result["output"]) as portrait:
        draw(ImageOps.exif_transpose(photo), result["prompt"], portrait, side=384).save(image)
    click.echo(f"The portrait is in {result['output']}.")
    click.echo(f"{image} shows photo, words and portrait side by side. It holds the original photo: do not release it.")


if __name__ == "__main__":
    main()
