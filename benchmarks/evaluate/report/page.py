"""The page ``report.html``: the answer and its plot first, then all tables; one file that needs no other."""

import base64
import html
from collections.abc import Iterator, Sequence
from pathlib import Path

import markdown

_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; color: #1b2733; }
h1 { font-size: 1.5rem; } h2 { margin-top: 2.5rem; border-top: 1px solid #c9d3dd; padding-top: 1rem; }
.answer { background: #eef4f8; border-left: 6px solid #2a6f97; padding: .5rem 1rem; font-size: 1.1rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0; }
th, td { border-bottom: 1px solid #dbe3ea; padding: .25rem .6rem; text-align: left; vertical-align: top; }
.answer td:nth-child(n+3) { white-space: nowrap; }
th { background: #f4f7fa; } img { max-width: 100%; height: auto; display: block; margin: 1rem 0; }"""


def render(title: str, answer: str, text: str, plots: Sequence[tuple[str, Path]]) -> str:
    """The page.

    Args:
        title: of the page.
        answer: what the reader sees first, in Markdown.
        text: all tables, in Markdown.
        plots: titles and files; the first one stands below the answer, the others at the end.
    """
    return "\n".join(_page(title, answer, text, plots))


def _page(title: str, answer: str, text: str, plots: Sequence[tuple[str, Path]]) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>"
    yield f'<h1>{html.escape(title)}</h1>\n<div class="answer">{_convert(answer)}</div>'
    yield from (_image(*plot) for plot in plots[:1])
    yield _convert(text)
    yield "<h2>Plots</h2>" if len(plots) > 1 else ""
    yield from (_image(*plot) for plot in plots[1:])
    yield "</main>\n</body>\n</html>"


def _convert(text: str) -> str:
    made: str = markdown.markdown(text, extensions=["tables", "sane_lists"], output_format="html")
    return made.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")


def _image(title: str, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'
