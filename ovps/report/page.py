"""Pages as Jinja2 templates: Python prepares typed data, `templates/` lays them out and escapes every text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined

from ovps.report.charts import Figure, deviation, percent, text


@dataclass(frozen=True, kw_only=True, eq=False)
class Page:
    """What every page shows.

    Attributes:
        template: file in `templates/` that lays it out.
        curves: of the training.
        provenance: sections of names and values: where the numbers come from.
        not_measured: what the numbers say nothing about.
    """

    template: ClassVar[str]
    title: str
    curves: Sequence[Figure]
    provenance: Mapping[str, Mapping[str, str]]
    not_measured: Sequence[str]


def render(page: Page) -> str:
    """A whole HTML file that loads nothing."""
    return _TEMPLATES.get_template(page.template).render(page=page)


def counted(number: int, what: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


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
_TEMPLATES.filters |= {f.__name__: f for f in (percent, deviation, text, counted, spaced)}
