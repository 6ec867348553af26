"""The tables of a nuScenes dataroot: opened by the devkit, with its assertions and KeyErrors put into words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ovps.errors import DatasetError

_TABLES = (
    *("category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "ego_pose", "log"),
    *("scene", "sample", "sample_data", "sample_annotation", "map"),
)
FETCH = "Unpack the metadata archive of this version into the dataroot again"
# table, its column, the table that column points into: what the devkit follows while it opens
_REFERENCES = (
    ("sample_data", "calibrated_sensor_token", "calibrated_sensor"),
    ("calibrated_sensor", "sensor_token", "sensor"),
    ("sample_data", "sample_token", "sample"),
    ("sample_annotation", "instance_token", "instance"),
    ("instance", "category_token", "category"),
    ("sample_annotation", "sample_token", "sample"),
)


def open_tables(dataroot: Path, version: str) -> Any:
    """The devkit's `NuScenes` of a version.

    Raises:
        DatasetError: no such folder or version, a table missing or not JSON, a reference into nothing, or whatever
            else the devkit refuses.
    """
    folder = dataroot / version
    if not dataroot.is_dir():
        raise DatasetError(
            "no such dataroot", path=dataroot, remedy="Pass --dataroot, or set OVPS_NUSCENES to the folder"
        )
    if not folder.is_dir():
        found = sorted(p.name for p in dataroot.iterdir() if (p / "sample_data.json").is_file())
        raise DatasetError(
            f"the dataroot has no version {version!r}",
            path=folder,
            remedy=f"Pass --version with one of: {', '.join(found)}" if found else FETCH,
        )
    for table in _TABLES:
        if not (folder / f"{table}.json").is_file():
            raise DatasetError(f"table {table} is missing", path=folder / f"{table}.json", remedy=FETCH)

    # imported here: the devkit takes seconds, and workers that only read files never need it
    from nuscenes.nuscenes import NuScenes

    try:
        return NuScenes(version=version, dataroot=str(dataroot), verbose=False)
    except (KeyError, IndexError) as error:
        _explain_broken_tables(folder)
        raise DatasetError(f"the devkit cannot read the tables: {error!r}", path=folder, remedy=FETCH) from error
    except json.JSONDecodeError as error:
        _explain_broken_tables(folder)
        raise DatasetError(f"a table is not JSON: {error}", path=folder, remedy=FETCH) from error
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", path=error.filename, remedy=FETCH) from error
    except Exception as error:  # the devkit raises AssertionError and bare Exception for its own checks
        raise DatasetError(f"the devkit refuses the tables: {error}", path=folder, remedy=FETCH) from error


def scenes_of_subset(tables: Any, subset: str) -> list[str]:
    """Names of the scenes of a split that the tables hold.

    `get_scenes_of_split` of the devkit ignores splits.json for names that are official, so both lists are asked here.

    Raises:
        DatasetError: no such split, or none of its scenes is present.
    """
    from nuscenes.utils.splits import create_splits_scenes, get_scenes_of_custom_split

    file = Path(tables.table_root) / "splits.json"
    official = create_splits_scenes()
    custom = _load(file) if file.is_file() else {}
    if not isinstance(custom, dict):
        raise DatasetError(
            "splits.json is not an object of lists of scenes", path=file, remedy='{"train": ["scene-1"]}'
        )
    if subset in custom:
        try:
            members = get_scenes_of_custom_split(subset, tables)
        except AssertionError as error:
            raise DatasetError(str(error), path=file, remedy='Write {"train": ["scene-0001"], ...}') from error
    elif subset in official:
        members = official[subset]
    else:
        raise DatasetError(
            f"no split named {subset!r}",
            path=file,
            remedy=f"Name it in splits.json, or use one of: {', '.join([*custom, *official])}",
        )
    present = [scene["name"] for scene in tables.scene if scene["name"] in set(members)]
    if not present:
        raise DatasetError(
            f"none of the {len(members)} scenes of split {subset!r} is in version {tables.version}",
            path=file if subset in custom else tables.table_root,
            remedy="Choose another split or version, or name scenes that are present in splits.json",
        )
    return present


def get_record(tables: Any, record: dict, table: str) -> dict:
    """The row of `table` that `record` of sample_data points to.

    Raises:
        DatasetError: there is none.
    """
    try:
        return tables.get(table, record[f"{table}_token"])
    except KeyError as error:
        raise _dangling(tables.table_root, "sample_data", record, f"{table}_token", table) from error


def inside_dataroot(dataroot: Path, filename: str) -> str:
    """The absolute path of a file that a table names.

    Raises:
        DatasetError: the name leads out of the dataroot. Symbolic links are followed: linking `samples/` to another
            disk is common, so only the name itself is judged.
    """
    parts = Path(filename)
    if not filename or parts.is_absolute() or ".." in parts.parts:
        raise DatasetError(
            "a table names a file outside the dataroot",
            path=filename,
            remedy="File names in tables are relative to the dataroot, without ..; fetch the tables again",
        )
    return str(dataroot.absolute() / parts)


def _explain_broken_tables(folder: Path) -> None:
    """The devkit's KeyError names a token but no table: raise the reason, if the files show it."""
    tables = {name: _load(folder / f"{name}.json") for name in _TABLES}
    tokens = {target: {row.get("token") for row in tables[target]} for _, _, target in _REFERENCES}
    for table, column, target in _REFERENCES:
        for row in tables[table]:
            if row.get(column) not in tokens[target]:
                raise _dangling(folder, table, row, column, target)


def _dangling(folder: str | Path, table: str, row: dict, column: str, target: str) -> DatasetError:
    where = f" of {row['filename']}" if "filename" in row else ""
    return DatasetError(
        f"{target} {row.get(column)}, which {table} {row.get('token')}{where} needs, is missing",
        path=Path(folder) / f"{target}.json",
        remedy=FETCH,
    )


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"not JSON: {error}", path=path, remedy=FETCH) from error
