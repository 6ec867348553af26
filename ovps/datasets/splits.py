"""Splits as a person lists them: a scene that is in two of them would be trained on and reported on."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from pathlib import Path

from ovps.errors import DatasetError, listed


def check_apart(splits: Mapping[str, Iterable[str]], path: Path, scene: str = "scene", also: str = "") -> None:
    """Check that no two splits name one scene.

    Args:
        splits: scenes by the name of a split.
        path: of the file that names them.
        scene: what a scene is called in the data set.
        also: another remedy than to mend the file, as the end of a sentence.

    Raises:
        DatasetError: two do.
    """
    first: dict[str, str] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for split, members in splits.items():
        for member in dict.fromkeys(members):
            before = first.setdefault(member, split)
            if before != split:
                shared.setdefault((before, split), []).append(member)
    if shared:
        (one, other), found = next(iter(shared.items()))
        raise DatasetError(
            f"{scene} {listed(found)} in two splits, {one} and {other}",
            path=path,
            remedy=f"Take it out of one of the two{also}",
        )


def missing_scenes(splits: Mapping[str, Iterable[str]], there: Container[str], path: Path, scene: str) -> list[str]:
    """Warnings of scenes that splits name and that the data set does not hold, a sentence for each split."""
    found = {split: [name for name in dict.fromkeys(members) if name not in there] for split, members in splits.items()}
    return [
        f"split {split} of {path} names {scene} {listed(names)}, which is not there: it goes without"
        for split, names in sorted(found.items())
        if names
    ]


def unnamed_scenes(splits: Iterable[Iterable[str]], there: Collection[str], path: Path, scene: str) -> list[str]:
    """Warn of scenes that the data set holds and that no split names, in one sentence, or none.

    Args:
        splits: members of all that there are, the official ones too: who lists some of these knows the others.
    """
    named = {name for members in splits for name in members}
    lost = sorted(set(there) - named)
    if not lost:
        return []
    return [f"{scene} {listed(lost)} is there, and no split names it: name it in {path}, or it is never used"]
