"""A contact sheet: the images of every original by all methods side by side, in one self-contained HTML file."""

import base64
import html
import io
from collections.abc import Iterator, Sequence

from PIL import Image
from tqdm import tqdm

from ..pairs import ImageFile, Method

SIDE = 128  # longest side of a thumbnail in pixels
_STYLE = """\
body { font: 14px sans-serif; margin: 1em; } table { border-collapse: collapse; }
th, td { padding: 4px; text-align: center; vertical-align: middle; } th { position: sticky; top: 0; background: white; }
td.none { color: #777; width: 128px; font-size: 12px; } img { display: block; margin: auto; }"""


def contact_sheet(originals: Sequence[ImageFile], methods: Sequence[Method], show_originals: bool) -> str:
    """The HTML page, which contains the thumbnails.

    Args:
        originals: one row each.
        methods: one column each.
        show_originals: also show the originals; their names are always shown.
    """
    return "\n".join(_page(originals, methods, show_originals))


def _page(originals: Sequence[ImageFile], methods: Sequence[Method], show_originals: bool) -> Iterator[str]:
    heads = ["name", *["original"] * show_originals, *(method.name for method in methods)]
    yield '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Contact sheet</title>'
    yield f"<style>{_STYLE}</style>"
    yield "<table>\n<tr>" + "".join(f"<th>{html.escape(head)}</th>" for head in heads) + "</tr>"
    for index, original in enumerate(tqdm(originals, desc="contact sheet", unit="row")):
        cells = [f"<td>{html.escape(original.name)}</td>"]
        cells += [_thumbnail(original)] * show_originals
        for method in methods:
            image = method.pairs.get(index)
            why = html.escape(method.missing.get(original.name, ""))
            cells.append(_thumbnail(image) if image else f'<td class="none">{why}</td>')
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</table>\n</html>"


def _thumbnail(image: ImageFile) -> str:
    thumbnail = Image.fromarray(image.pixels())
    thumbnail.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    size = f'width="{thumbnail.width}" height="{thumbnail.height}"'
    return f'<td><img {size} alt="{html.escape(image.name)}" src="data:image/jpeg;base64,{data}"></td>'
