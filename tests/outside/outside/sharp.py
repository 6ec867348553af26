"""A system: the queries of the method, surer of what they say."""

from __future__ import annotations

from ovps.systems.queries import QuerySystem


class Sharp(QuerySystem):
    name = "sharp"
    tuning = {"score": (0.0, 0.1)}  # noqa: RUF012

    def probability(self, *args):
        return super().probability(*args).sqrt()


SYSTEM = Sharp()
