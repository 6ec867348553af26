"""What came of one fault."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

WATCHERS = ("verify", "reader", "precompute", "training")


@dataclass
class Outcome:
    """What came of one fault.

    Attributes:
        kind: of the fault.
        what: was done, for people.
        seen: who told of it: some of `WATCHERS`, or `run`, the disturbed run itself.
        mended: by what the store became again what it was: repair, precompute; nothing: it had not to be.
        lost: bytes that were committed before, or that an undisturbed run has, and that were there no more at the end.
        wrong: bytes that somebody read without an error and that were not those that were written, at any time.
        note: what was unexpected.
    """

    kind: str
    what: str
    seen: set[str] = field(default_factory=set)
    mended: str = "nothing"
    lost: int = 0
    wrong: int = 0
    note: str = ""

    @property
    def good(self) -> bool:
        return not (self.lost or self.wrong or self.note)

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"seen": sorted(self.seen)}

    @classmethod
    def of_plain(cls, plain: dict) -> Outcome:
        return cls(**(plain | {"seen": set(plain["seen"])}))
