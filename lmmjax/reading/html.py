"""Tables for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1, caption: str = ""
) -> str:
    """An HTML table whose first `text_columns` columns are text and the others numbers."""

    def cell(tag: str, text: str, column: int) -> str:
        side = "left" if column < text_columns else "right"
        return f'<{tag} style="text-align:{side}">{escape(text.strip())}</{tag}>'

    head = "".join(cell("th", text, i) for i, text in enumerate(header))
    body = "".join(
        "<tr>" + "".join(cell("td", text, i) for i, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    title = f'<caption style="text-align:left">{escape(caption)}</caption>' if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
