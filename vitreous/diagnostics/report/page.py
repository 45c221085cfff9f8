"""The page: a report's content as one HTML file that loads nothing else and runs no script."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.diagnostics.report.content import ReportContent

if TYPE_CHECKING:
    from jinja2 import Template

HERE = Path(__file__).parent
TEMPLATE, STYLE = "page.html.jinja", "style.css"


def render_page(content: ReportContent) -> str:
    """Return a report as HTML; every text in it is escaped, and a policy forbids the page to load or run anything."""
    style = page_style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return _template().render(content=content, style=style, policy=policy)


@cache
def page_style() -> str:
    """Return the style sheet."""
    return (HERE / STYLE).read_text(encoding="utf-8")


@cache
def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(TEMPLATE)
