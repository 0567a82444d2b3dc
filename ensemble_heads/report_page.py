"""An HTML page that needs nothing but itself: tables, and plots as data URIs."""

import base64
import dataclasses
import html
import io
import string

# Nothing is fetched: the policy would forbid it, and the empty icon keeps browsers from
# asking for one.
_PAGE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
body { margin: 0 auto; max-width: 72rem; padding: 1rem; color: #1a1a1a;
  background: #fff; font: 1rem/1.5 system-ui, sans-serif; }
main { display: grid; gap: 1rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
section { min-width: 0; border-top: 1px solid #ccc; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; }
img { display: block; width: 100%; max-width: 36rem; height: auto; margin-top: 0.8rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: 0.2rem 1rem 0.2rem 0; text-align: right; vertical-align: top; }
th, .words { text-align: left; font-weight: normal; }
tr + tr > * { border-top: 1px solid #eee; }
footer { margin-top: 2rem; color: #555; font-size: 0.85rem; }
</style>
</head>
<body>
<h1>$title</h1>
<main>
$sections
</main>
<footer>$footer</footer>
</body>
</html>
""")

_WORDS = '<td class="words">{}</td>'


@dataclasses.dataclass(frozen=True, eq=False)
class Section:
    """One part of a page.

    Attributes:
        title: str.
        text: str, what it shows, in a sentence or two.
        rows: list of lists of str, a table without a head; its first column names
            what the others hold.
        figure: matplotlib `Figure` or None.
    """

    title: str
    text: str = ""
    rows: tuple = ()
    figure: object = None


def render(title, sections, footer=""):
    """The page as a str; all texts are escaped."""
    return _PAGE.substitute(
        title=html.escape(title),
        sections="\n".join(map(_section, sections)),
        footer=html.escape(footer),
    )


def _section(section):
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.rows:
        rows = "\n".join(f"<tr>{_cells(row)}</tr>" for row in section.rows)
        parts.append(f'<div class="table"><table>\n{rows}\n</table></div>')
    if section.figure is not None:
        source = _data_uri(section.figure)
        parts.append(f'<img alt="{html.escape(section.title)}" src="{source}">')
    return "<section>\n{}\n</section>".format("\n".join(parts))


def _cells(row):
    name, *values = (html.escape(str(cell)) for cell in row)
    cells = [f'<th scope="row">{name}</th>']
    for value in values:
        is_number = any(character.isdigit() for character in value)
        cells.append(f"<td>{value}</td>" if is_number else _WORDS.format(value))
    return "".join(cells)


def _data_uri(figure):
    """The figure as SVG in an attribute: sharp at every size of the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/svg+xml;base64,{text}"
