"""A campaign of corrupt input: a clean data set, one damage each, and what must come of it.

Whatever is done to the input, a run ends in one of four ways, and the store holds nothing wrong:

    refused      a typed error that names the file and the remedy, with or without `--on-error skip`: the data set as
                 a whole is at fault, or all its frames, and what leaves nothing to show is no success
    quarantined  the same at the frame; under `--on-error skip` that frame alone is left out, others are as they were
    warned       everything is computed, and the summary says what should be looked into
    taken        everything is computed; what was done does no harm

and once the input is mended, the next run computes what was missing: the store is then that of the clean data set.
No damage makes a run take memory out of proportion.
"""

from __future__ import annotations

import re
import resource
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from ovps.cache.reader import Store
from ovps.cache.verify import verify_store
from ovps.errors import OvpsError
from pipelines.precompute import PrecomputeOptions, PrecomputeSummary, precompute

Outcome = Literal["refused", "quarantined", "warned", "taken"]
ROOT = "a b=c é 東"  # of every data root: no name of a folder may matter
LEAST = 80  # cases of a data set
_ROOM_KIB = 300 * 1024  # that a run may take beyond what this process has taken before
_LONGEST = 1000  # characters of a message


@dataclass(frozen=True)
class Case:
    """One damage.

    Attributes:
        name: what was done, in a few words.
        damage: does it to a data root.
        outcome: what must come of it.
        says: pattern that the error, or a warning, must match.
        file: what the path that the error names must hold, below the data root.
        store_changes: the store may differ from the clean one though all is computed (what was done is another input).
    """

    name: str
    damage: Callable[[Path], object]
    outcome: Outcome
    says: str = ""
    file: str = ""
    store_changes: bool = False


@dataclass(frozen=True)
class Campaign:
    """A clean data set and its store.

    Attributes:
        root: of the clean data set. Read only.
        options: of precompute, but for `dataroot` and `out`.
        frames: token -> arrays of the clean store.
        damaged: token of the frame that damages of one frame are done to.
    """

    root: Path
    options: Mapping[str, Any]
    frames: Mapping[str, Mapping[str, np.ndarray]]
    damaged: str

    @classmethod
    def of(cls, root: Path, out: Path, **options: Any) -> Campaign:
        """Compute the store of a clean data set; the first frame is the one to damage."""
        precompute(_options(options, root, out))
        frames = _frames(out)
        return cls(root, options, frames, next(iter(frames)))

    def check(self, case: Case, folder: Path) -> None:
        """Do the damage to a copy in `folder`, run strictly and leniently, mend it, and run again."""
        root = folder / ROOT
        shutil.copytree(self.root, root, symlinks=True)
        case.damage(root)
        strict = self._run(root, folder / "strict")
        if case.outcome in ("refused", "quarantined"):
            assert isinstance(strict, OvpsError), f"taken: {strict}"
            _says(case, str(strict))
            assert strict.remedy, str(strict)
            assert strict.exit_code in range(2, 10)
            assert str(strict.path).startswith(str(root)), str(strict)
            assert case.file in str(strict.path), str(strict)
            assert len(str(strict)) < _LONGEST, str(strict)
        else:
            self._computed(case, strict, folder / "strict")

        lenient = self._run(root, folder / "lenient", on_error="skip")
        if case.outcome == "refused":
            assert isinstance(lenient, OvpsError), f"taken: {lenient}"
        elif case.outcome == "quarantined":
            assert isinstance(lenient, PrecomputeSummary), repr(lenient)
            assert [row.token for row in lenient.quarantined] == [self.damaged]
            assert lenient.quarantined[0].reason
            self._same(folder / "lenient", without=self.damaged)
        else:
            self._computed(case, lenient, folder / "lenient")

        shutil.rmtree(root)
        shutil.copytree(self.root, root, symlinks=True)
        if case.outcome in ("refused", "quarantined"):
            for name in ("strict", "lenient"):
                if not (folder / name / "store.json").exists():
                    continue  # nothing was kept: the next run is that of the clean data set
                mended = self._run(root, folder / name)
                assert isinstance(mended, PrecomputeSummary), f"not computed once mended: {mended!r}"
                self._same(folder / name)

    def _computed(self, case: Case, found: PrecomputeSummary | OvpsError, out: Path) -> None:
        assert isinstance(found, PrecomputeSummary), repr(found)
        assert not found.quarantined
        if case.outcome == "warned":
            _says(case, "\n".join(found.warnings))
        if not case.store_changes:
            self._same(out)

    def _run(self, root: Path, out: Path, **changes: Any) -> PrecomputeSummary | OvpsError:
        """Run; only a typed error may come of it, and the store is whole whatever came."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a warning of a library is not for users
                warnings.filterwarnings("ignore", category=DeprecationWarning)
                return precompute(_options({**self.options, **changes}, root, out))
        except OvpsError as error:
            return error
        finally:
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + _ROOM_KIB
            if (out / "store.json").exists():
                assert verify_store(out) == []

    def _same(self, out: Path, without: str | None = None) -> None:
        found = _frames(out)
        assert found.keys() == self.frames.keys() - {without}
        for token, arrays in found.items():
            for name, array in arrays.items():
                np.testing.assert_array_equal(array, self.frames[token][name], err_msg=f"{token} {name}")


def _options(values: Mapping[str, Any], root: Path, out: Path) -> PrecomputeOptions:
    usual = {"encoder": "demo", "weights": "random", "workers": 0, "codec": "cells", "grid": "cylinder:60x45x8"}
    return PrecomputeOptions.model_validate({**usual, **values, "dataroot": root, "out": out})


def _frames(out: Path) -> dict[str, dict[str, np.ndarray]]:
    store = Store.open(out)
    return {ref.token: _arrays(store.read(ref)) for ref in store.frames}


def _arrays(frame: Any) -> dict[str, np.ndarray]:
    values = {f.name: getattr(frame, f.name) for f in fields(frame)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def _says(case: Case, text: str) -> None:
    assert re.search(case.says, text), f"does not say {case.says!r}: {text}"


def cases(*found: Case) -> pytest.MarkDecorator:
    """Parametrise a test by cases, whose names must differ."""
    names = [case.name for case in found]
    assert len(set(names)) == len(names) >= LEAST
    return pytest.mark.parametrize("case", found, ids=names)
