"""Parts of an HTML page. All functions take plain text and escape it, except where they say that they take HTML."""

from collections.abc import Iterable, Sequence
from html import escape

Html = str  # text that is escaped already


def section(title: str, *parts: Html) -> Html:
    """Return a section of a page.

    Args:
        title: its heading.
        parts: its content, as HTML.
    """
    return "\n".join(["<section>", f"<h2>{escape(title)}</h2>", *filter(None, parts), "</section>"])


def paragraph(*sentences: str) -> Html:
    """Return a paragraph; without a sentence, return nothing.

    Args:
        sentences: its sentences; empty ones are left out.
    """
    text = " ".join(sentence for sentence in sentences if sentence)
    return f"<p>{escape(text)}</p>" if text else ""


def warning(*sentences: str) -> Html:
    """Return a paragraph that stands out.

    Args:
        sentences: its sentences.
    """
    return f'<p class="warning">{escape(" ".join(sentences))}</p>'


def listing(items: Iterable[str]) -> Html:
    """Return a list.

    Args:
        items: the text of each item.
    """
    return "<ul>\n" + "\n".join(f"<li>{escape(item)}</li>" for item in items) + "\n</ul>"


def columns(*parts: Html) -> Html:
    """Return parts that are set in two columns.

    Args:
        parts: the parts, as HTML.
    """
    return "\n".join(['<div class="columns">', *filter(None, parts), "</div>"])


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]], *, kind: str = "") -> Html:
    """Return a table; the first cell of each row is its heading. Without a row, return nothing.

    Args:
        caption: what the table shows.
        heads: the headings of the columns.
        rows: the cells of each row. A column that has a number or None, which is a dash, is set to the right.
        kind: the name of a style.
    """
    cells = [list(row) for row in rows]
    if not cells:
        return ""
    right = [any(isinstance(cell, int | float | None) for cell in column) for column in zip(*cells, strict=True)]
    styles = [' class="number"' if one else "" for one in right]
    head = "".join(f'<th scope="col"{style}>{escape(text)}</th>' for text, style in zip(heads, styles, strict=True))
    lines = [f'<table class="{escape(kind)}">' if kind else "<table>", f"<caption>{escape(caption)}</caption>"]
    lines += [f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for first, *rest in cells:
        others = "".join(f"<td{style}>{_shown(cell)}</td>" for cell, style in zip(rest, styles[1:], strict=True))
        lines.append(f'<tr><th scope="row">{_shown(first)}</th>{others}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>"])


def _shown(value: object) -> Html:
    match value:
        case None:
            return "&ndash;"
        case int():
            return f"{value:,}"
        case _:
            return escape(str(value))


def share(part: int, whole: int) -> str:
    """Return a number of a total with its percentage, such as ``5 of 20 (25.0 %)``.

    Args:
        part: the number.
        whole: the total.
    """
    return f"{part:,} of {whole:,} ({part / whole:.1%})".replace("%)", " %)") if whole else "none of 0"


def count(number: int, one: str, many: str) -> str:
    """Return a number with its noun.

    Args:
        number: the number.
        one: the noun for one.
        many: the noun for any other number.
    """
    return f"{number:,} {one if number == 1 else many}"
