"""Digests of results, kept in their record: what is changed later is never taken for what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

from cache_schemas import content_sha256
from ovps.files import file_sha256

WRITTEN = "written"  # the part of a record that holds them


class Written(BaseModel, frozen=True):
    """Digests of a record and of the files beside it, as they were written.

    Attributes:
        files: SHA-256 of the files beside it, by name.
        sha256: of `files` and of all else that the record holds.
    """

    files: dict[str, str]
    sha256: str

    @classmethod
    def of(cls, record: Mapping[str, Any], contents: Mapping[str, bytes]) -> Self:
        """Digests of a record, as JSON gives it back, and of the contents of the files beside it, by name."""
        files = {name: sha256(content).hexdigest() for name, content in contents.items()}
        return cls(files=files, sha256=_sha256(record, files))

    def is_of(self, record: Mapping[str, Any]) -> bool:
        """Say whether a record is the one that was written."""
        return self.sha256 == _sha256(record, self.files)

    def changed(self, folder: Path) -> list[str]:
        """Names of the files beside the record that are not there any more as they were written.

        Raises:
            OSError: one cannot be read.
        """
        paths = {folder / name: known for name, known in self.files.items()}
        return [path.name for path, known in paths.items() if not path.is_file() or file_sha256(path) != known]


def _sha256(record: Mapping[str, Any], files: Mapping[str, str]) -> str:
    rest = {name: value for name, value in record.items() if name != WRITTEN}
    return content_sha256({**rest, "files": files})
