"""Figures in Markdown pages, each between a pair of comments ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from elysium.files import atomic_write_text


def fill(page: Path, texts: Mapping[str, str]) -> bool:
    """Put each text between the marks of its name, where the page has them; whether that changed anything."""
    text = page.read_text(encoding="utf-8")
    filled = text
    for name, content in texts.items():
        filled = between(filled, name, content)
    if filled != text:
        atomic_write_text(page, filled)
    return filled != text


def between(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` between the marks ``name``, if it has them."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in text:
        return text
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{content.strip()}\n{end}{rest.partition(end)[2]}"


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
