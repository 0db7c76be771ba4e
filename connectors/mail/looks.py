"""How a mail's words look: as plain text, and as HTML that says the same.

Business of this file: escaping whatever stands in a word, and HTML that a screen reader reads in order: a language, a
heading, tables whose rows have headings, links that say where they lead. No image, no font and no script from anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Facts:
    """What is said in a word each: label and value."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Pieces:
    """A list with its title ('': none): of each what it is, perhaps its name, and perhaps where it is found."""

    title: str
    items: tuple[tuple[str, str | None, str | None], ...]


Block = str | Facts | Pieces
"""A paragraph, or one of these."""


def as_text(blocks: Sequence[Block]) -> str:
    return "\n\n".join("\n".join(_lines(block)) for block in blocks) + "\n"


def _lines(block: Block) -> Iterator[str]:
    match block:
        case Facts(rows=rows):
            yield from (f"  {label} : {value}" for label, value in rows)
        case Pieces(title=title, items=items):
            if title:
                yield title
            for label, name, link in items:
                if link is None or link == label:
                    yield f"  {label}" if name is None else f"  {label} : {name}"
                else:
                    yield f"  {label} :"
                    yield f"  {link}"
        case _:
            yield block


def as_html(title: str, blocks: Sequence[Block]) -> str:
    body = "\n".join(_element(block) for block in blocks)
    told = escape(title)
    return (
        f'<!doctype html>\n<html lang="fr">\n<head>\n<meta charset="utf-8">\n<title>{told}</title>\n</head>\n'
        f'<body style="{_BODY}">\n<h1 style="{_HEADING}">{told}</h1>\n{body}\n</body>\n</html>\n'
    )


_BODY = "font-family:Arial,sans-serif;font-size:16px;line-height:1.5;color:#161616;background:#ffffff;max-width:40em"
_HEADING = "font-size:20px;line-height:1.3"
_LABEL = "text-align:left;vertical-align:top;font-weight:bold;padding:2px 16px 2px 0"
_VALUE = "text-align:left;vertical-align:top;padding:2px 0"


def _element(block: Block) -> str:
    match block:
        case Facts(rows=rows):
            lines = "\n".join(
                f'<tr><th scope="row" style="{_LABEL}">{escape(label)}</th>'
                f'<td style="{_VALUE}">{escape(value)}</td></tr>'
                for label, value in rows
            )
            return f'<table style="border-collapse:collapse;margin:0 0 16px">\n{lines}\n</table>'
        case Pieces(title=title, items=items):
            head = f"<p>{escape(title)}</p>\n" if title else ""
            return head + "<ul>\n" + "\n".join(f"<li>{_item(*item)}</li>" for item in items) + "\n</ul>"
        case _:
            return "<p>" + "<br>\n".join(escape(line) for line in block.splitlines()) + "</p>"


def _item(label: str, name: str | None, link: str | None) -> str:
    if link is not None:
        return f'<a href="{escape(link)}">{escape(label)}</a>'
    return escape(label) if name is None else f"{escape(label)} : {escape(name)}"
