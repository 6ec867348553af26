"""Pages as Jinja2 templates: Python prepares typed data, `templates/` lays them out and escapes every text."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ovps.files import write_whole
from ovps.report.charts import deviation, percent, text


def render(template: str, page: object) -> str:
    """A whole HTML file that loads nothing; `template` is a file of `templates/`, `page` has what it asks for."""
    return _TEMPLATES.get_template(template).render(page=page)


def write_page(path: Path, page: str) -> int:
    """Write an HTML file, whole or not at all; bytes of file names that are no UTF-8 become question marks.

    Returns:
        Its size in bytes.

    Raises:
        StorageError: the disk refuses.
    """
    content = page.encode("utf-8", "replace")
    write_whole(path, content)
    return len(content)


def spaced(name: str) -> str:
    """The name of a class or row with blanks for underscores."""
    return name.replace("_", " ")


_TEMPLATES = Environment(
    loader=PackageLoader("ovps.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {f.__name__: f for f in (percent, deviation, text, spaced)}
