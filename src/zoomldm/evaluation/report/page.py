"""A page made of sections, rendered as Markdown with picture files and as one HTML file that holds everything."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoomldm.files import write_atomically

CSS = """
:root { --ink: #26222b; --soft: #6f6876; --line: #e4dfe7; --paper: #fffdfb; --accent: #9b2c5e; --wash: #f7f2f5; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 Georgia, "Times New Roman", serif; }
main { max-width: 1080px; margin: 0 auto; padding: 48px 28px 96px; }
h1 { font-size: 34px; line-height: 1.15; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 22px; margin: 52px 0 10px; padding-top: 18px; border-top: 1px solid var(--line); }
p { margin: 8px 0; } p.lead { font-size: 19px; }
p.caption, figcaption, .facts { color: var(--soft); font-size: 14px; }
.scroll { overflow-x: auto; margin: 14px 0 4px; }
table { border-collapse: collapse; width: 100%;
  font: 14px/1.35 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 8px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 130px; max-width: 300px; }
td small { display: block; font-size: 11px; font-weight: 400; color: var(--soft); }
thead th { border-bottom: 2px solid var(--ink); font-weight: 600; }
tr.strong td { background: var(--wash); font-weight: 600; } tr.quiet td { color: var(--soft); }
tr.break td { border-top: 2px solid var(--line); }
td.unjudged { color: #a49cab; font-style: italic; }
figure { margin: 18px 0 6px; } img { max-width: 100%; height: auto; image-rendering: pixelated; }
img.part { display: inline-block; vertical-align: top; margin-right: 2px; }
td.words { white-space: normal; }
img.chart { image-rendering: auto; max-width: 820px; width: 100%; }
ul.claims { list-style: none; padding: 0; font: 15px/1.45 system-ui, sans-serif; }
ul.claims > li { padding: 9px 0; border-bottom: 1px solid var(--line); }
.badge { display: inline-block; min-width: 112px; text-align: center; padding: 2px 9px; margin-right: 10px;
  border-radius: 3px; font-size: 13px; font-weight: 600; }
.holds { background: #dcefe2; color: #1d5c37; } .not { background: #f1ecd8; color: #6b5413; }
.fails { background: #f7dcdc; color: #8a1f1f; } .unknown { background: #ececef; color: #555; }
details { margin: 6px 0; font: 14px/1.5 system-ui, sans-serif; } summary { cursor: pointer; color: var(--soft); }
details ul { margin: 4px 0 4px 4px; padding-left: 20px; color: var(--soft); }
@media (max-width: 760px) {  /* a row becomes a card, each of its cells under its column's name */
  main { padding: 20px 14px 60px; } h1 { font-size: 25px; } p.lead { font-size: 17px; }
  thead { display: none; } tbody tr { display: grid; grid-template-columns: repeat(4, 1fr); padding: 8px 0; }
  tbody td { border: 0; padding: 3px 4px; white-space: normal; overflow-wrap: anywhere; }
  tbody td:first-child { grid-column: 1 / -1; max-width: none; font-weight: 600; }
  tbody td:not(:first-child)::before {
    content: attr(data-column); display: block; font-size: 11px; color: var(--soft);
  }
  tbody tr { border-bottom: 1px solid var(--line); }
}
"""
WORDS = 20
"""Characters from which a cell is taken for words, which may be broken into lines."""
_BADGES = {"holds": "holds", "not separated": "not", "does not hold": "fails"}


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; ``styles`` by row: strong, quiet, break. Cells that end in † or ‡ are not judged."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    styles: Sequence[str] = ()
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """PNG bytes under a file name, with what a reader should see in it.

    Attributes:
        parts: PNGs that show the same one by one; in HTML they stand as many abreast as the window has room for.
    """

    name: str
    png: bytes
    caption: str
    is_chart: bool = False
    parts: Sequence[bytes] = ()


@dataclass(frozen=True)
class Claims:
    """(verdict, statement, details) of each claim."""

    items: Sequence[tuple[str, str, Sequence[str]]]


@dataclass(frozen=True)
class Folded:
    """A table that is closed at first."""

    summary: str
    table: Table


@dataclass
class Section:
    """A heading and what stands under it: text, tables, pictures, claims."""

    title: str
    items: list = field(default_factory=list)


@dataclass
class Page:
    """A title, a lead sentence, facts in small type and sections."""

    title: str
    lead: str
    facts: str
    sections: list[Section]

    def pictures(self) -> list[Picture]:
        return [item for section in self.sections for item in section.items if isinstance(item, Picture)]

    def write(self, folder: Path, *, markdown: str, html: str) -> Path:
        """Write the page into a folder under two names, its pictures beside it; return the path of the HTML."""
        for picture in self.pictures():
            write_atomically(folder / picture.name, picture.png)
        write_atomically(folder / markdown, self.to_markdown())
        write_atomically(folder / html, self.to_html())
        return folder / html

    def to_markdown(self) -> str:
        parts = [f"# {self.title}", self.lead, self.facts]
        for section in self.sections:
            parts.append(f"## {section.title}")
            parts += [_markdown(item) for item in section.items]
        return "\n\n".join(part for part in parts if part) + "\n"

    def to_html(self) -> str:
        parts = [f"<h1>{html.escape(self.title)}</h1>", f'<p class="lead">{html.escape(self.lead)}</p>']
        parts.append(f'<p class="facts">{html.escape(self.facts)}</p>')
        for section in self.sections:
            parts.append(f"<section><h2>{html.escape(section.title)}</h2>")
            parts += [_html(item) for item in section.items]
            parts.append("</section>")
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{CSS}</style></head>\n<body><main>\n"
            + "\n".join(parts)
            + "\n</main></body></html>\n"
        )


def table_to_markdown(table: Table) -> str:
    """Return a table as Markdown, columns aligned for reading as plain text too."""
    rows = [[str(cell).replace("|", "\\|") for cell in row] for row in [table.head, *table.rows]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.head))]
    lines = [
        "| "
        + " | ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    caption = [f"\n{table.caption}"] if table.caption else []
    return "\n".join([lines[0], rule, *lines[1:], *caption])


def _markdown(item) -> str:
    if isinstance(item, Table):
        return table_to_markdown(item)
    if isinstance(item, Folded):
        return f"{item.summary}\n\n{table_to_markdown(item.table)}"
    if isinstance(item, Picture):
        return f"![{item.caption}]({item.name})\n\n{item.caption}"
    if isinstance(item, Claims):
        return "\n".join(
            f"- **{verdict}**: {statement}" + "".join(f"\n  - {detail}" for detail in details)
            for verdict, statement, details in item.items
        )
    return str(item)


def _html(item) -> str:
    if isinstance(item, Table):
        return _html_table(item)
    if isinstance(item, Folded):
        return f"<details><summary>{html.escape(item.summary)}</summary>{_html_table(item.table)}</details>"
    if isinstance(item, Picture):
        caption = html.escape(item.caption)
        images = "".join(_html_image(png, item, caption) for png in item.parts or [item.png])
        return f"<figure>{images}<figcaption>{caption}</figcaption></figure>"
    if isinstance(item, Claims):
        return '<ul class="claims">' + "".join(_html_claim(*one) for one in item.items) + "</ul>"
    return f"<p>{html.escape(str(item))}</p>"


def _html_image(png: bytes, picture: Picture, caption: str) -> str:
    kind = "chart" if picture.is_chart else "part" if picture.parts else ""
    return f'<img class="{kind}" alt="{caption}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _html_claim(verdict: str, statement: str, details: Sequence[str]) -> str:
    folded = ""
    if details:
        folded = "<details><summary>by magnification</summary><ul>"
        folded += "".join(f"<li>{html.escape(detail)}</li>" for detail in details) + "</ul></details>"
    badge = f'<span class="badge {_BADGES.get(verdict, "unknown")}">{html.escape(verdict)}</span>'
    return f"<li>{badge}{html.escape(statement)}{folded}</li>"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in table.head)
    body = []
    for i, row in enumerate(table.rows):
        style = table.styles[i] if i < len(table.styles) else ""
        cells = "".join(_html_cell(cell, column) for cell, column in zip(row, table.head))
        body.append(f'<tr class="{style}">{cells}</tr>')
    caption = f'<p class="caption">{html.escape(table.caption)}</p>' if table.caption else ""
    table_html = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll">{table_html}</div>{caption}'


def _html_cell(cell: str, column: str) -> str:
    """Render a cell: its standard error small below its value, its column's name for narrow pages."""
    style = " class=unjudged" if str(cell).endswith(("†", "‡")) else " class=words" if len(str(cell)) > WORDS else ""
    value, sign, error = str(cell).partition(" ± ")
    text = html.escape(value) + (f"<small>± {html.escape(error)}</small>" if sign else "")
    return f'<td{style} data-column="{html.escape(str(column))}">{text}</td>'
