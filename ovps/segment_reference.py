"""One segment of a store by name: `FRAME:objects:12`, as lists, pages and the viewer write it and commands read it."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Of = Literal["objects", "segments", "clusters"]


class Segment(NamedTuple):
    """A segment of a frame.

    Attributes:
        frame: its token.
        number: in the frame, from 0, among all that `of` names.
        of: `objects` that are labelled, `segments` of a run, or `clusters` found without either; None: not said.
    """

    frame: str
    number: int
    of: Of | None = None

    def __str__(self) -> str:
        return ":".join((self.frame, *([self.of] if self.of else []), str(self.number)))


def parse_segment(text: str) -> Segment | None:
    """Read `FRAME:OF:NUMBER`, or `FRAME:NUMBER`; None where it is neither. A token may hold colons.

    >>> parse_segment("a6b3:clusters:12")
    Segment(frame='a6b3', number=12, of='clusters')
    """
    frame, _, number = text.rpartition(":")
    if not frame or not (number.isascii() and number.isdecimal()):
        return None
    token, _, last = frame.rpartition(":")
    of = next((kind for kind in get_args(Of) if kind == last), None)
    return Segment(token, int(number), of) if of and token else Segment(frame, int(number))
