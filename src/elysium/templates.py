"""Templates of HTML pages that lie in packages. Knows nothing of what is in them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


@cache
def page_template(package: str) -> Template:
    """`report.html.j2` of a package; what is put in is escaped, and a name that is not given is an error."""
    from jinja2 import Environment, StrictUndefined

    text = files(package).joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return environment.from_string(text)
