"""The tables of a nuScenes dataroot: checked, then opened by the devkit, whose own errors name no file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ovps.errors import DatasetError
from ovps.extras import extra

Rows = list[dict[str, Any]]

_TABLES = (
    *("category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "ego_pose", "log"),
    *("scene", "sample", "sample_data", "sample_annotation", "map"),
)
# tables of labels, which need not be there, and the archive of each
_LABELS = {
    "lidarseg": {"v1.0-mini": "nuScenes-lidarseg-mini-v1.0.tar.bz2"},
    "panoptic": {"v1.0-mini": "nuScenes-panoptic-v1.0-mini.tar.gz"},
}
_LABELS_OF_ALL = {"lidarseg": "nuScenes-lidarseg-all-v1.0.tar.bz2", "panoptic": "nuScenes-panoptic-v1.0-all.tar.gz"}
_METADATA = {"v1.0-mini": "v1.0-mini.tgz", "v1.0-test": "v1.0-test_meta.tgz", "v1.0-trainval": "v1.0-trainval_meta.tgz"}

# what is read of a table besides `token`, here or by the devkit while it opens
_COLUMNS: dict[str, dict[str, type]] = {
    "category": {"name": str},
    "map": {"filename": str, "log_tokens": list},
    "sensor": {"channel": str, "modality": str},
    "scene": {"name": str},
    "sample": {"scene_token": str, "timestamp": int},
    "sample_data": {"filename": str, "is_key_frame": bool, "timestamp": int},
    "lidarseg": {"filename": str},
    "panoptic": {"filename": str, "sample_data_token": str},
}
# table, its column, the table that column points into
_REFERENCES = (
    ("sample_data", "calibrated_sensor_token", "calibrated_sensor"),
    ("sample_data", "ego_pose_token", "ego_pose"),
    ("calibrated_sensor", "sensor_token", "sensor"),
    ("sample_data", "sample_token", "sample"),
    ("sample", "scene_token", "scene"),
    ("sample_annotation", "instance_token", "instance"),
    ("instance", "category_token", "category"),
    ("sample_annotation", "sample_token", "sample"),
)


def open_tables(dataroot: Path, version: str) -> Any:
    """The devkit's `NuScenes` of a version.

    Tables may begin with a byte order mark, as some editors write it.

    Raises:
        DatasetError: no such folder or version; a table that is missing, not JSON, not rows with the columns it needs,
            or has a token twice; a reference into nothing; label files that do not fit their table; or whatever else
            the devkit refuses.
    """
    folder = dataroot / version
    if not dataroot.is_dir():
        raise DatasetError(
            "no such dataroot", path=dataroot, remedy="Pass --dataroot, or set OVPS_NUSCENES to the folder"
        )
    if not folder.is_dir():
        found = sorted(p.name for p in dataroot.iterdir() if (p / "sample_data.json").is_file())
        unpack = f"Unpack {_METADATA.get(version, 'the archive of its tables')} into the dataroot"
        raise DatasetError(
            f"the dataroot has no version {version!r}",
            path=folder,
            remedy=f"Pass --version with one of: {', '.join(found)}" if found else unpack,
        )
    labels = [name for name in _LABELS if (folder / f"{name}.json").is_file()]
    tables = {name: _rows(folder, name) for name in (*_TABLES, *labels)}
    _check_references(folder, tables)
    _check_maps(folder, tables)
    if labels:
        _check_categories(folder, tables["category"])
    for name in labels:
        _check_label_files(dataroot, version, name, tables[name])
    return _opened(dataroot, version, tables)


def take_again(path: Path) -> str:
    """The remedy for a table that is not as it was shipped: where that one file comes from.

    Unpacking a whole archive would put its own category.json over the one that came with the labels.
    """
    version, table = path.parent.name, path.stem
    if (path.parent.parent / ".scenes").is_dir():
        return "Delete this drive world and build it again: ovps world build"
    label = table if table in _LABELS else "panoptic" if table == "category" and _has_labels(path.parent) else None
    archive = label_archive(label, version) if label else _METADATA.get(version)
    if archive is None:
        return f"Take {path.name} again from where the data set comes from"
    return f"Take {path.name} again from {archive}, and no other table with it"


def label_archive(kind: str, version: str) -> str:
    """The archive that holds the labels `lidarseg` or `panoptic` of a version."""
    return _LABELS[kind].get(version, _LABELS_OF_ALL[kind])


def scenes_of_subset(tables: Any, subset: str) -> list[str]:
    """Names of the scenes of a split that the tables hold.

    A split that `splits.json` names is what that says, official or not.

    Raises:
        DatasetError: no such split, or none of its scenes is present.
    """
    with extra("nuscenes"):
        from nuscenes.utils.splits import create_splits_scenes

    file = Path(tables.table_root) / "splits.json"
    official = create_splits_scenes()
    custom = _load(file, 'Write {"train": ["scene-0001"], ...}') if file.is_file() else {}
    if not isinstance(custom, dict) or not all(_is_names(scenes) for scenes in custom.values()):
        raise DatasetError(
            "splits.json is not an object of lists of scenes",
            path=file,
            remedy='Write {"train": ["scene-0001"], ...}',
        )
    members = custom.get(subset, official.get(subset))
    if members is None:
        raise DatasetError(
            f"no split named {subset!r}",
            path=file,
            remedy=f"Name it in splits.json, or use one of: {', '.join({**custom, **official})}",
        )
    present = [scene["name"] for scene in tables.scene if scene["name"] in set(members)]
    if not present:
        raise DatasetError(
            f"none of the {len(members)} scenes of split {subset!r} is in version {tables.version}",
            path=file if subset in custom else tables.table_root,
            remedy="Choose another split or version, or name scenes that are present in splits.json",
        )
    return present


def inside_dataroot(dataroot: Path, filename: str, table: Path) -> str:
    """The absolute path of a file that a table names.

    Raises:
        DatasetError: the name leads out of the dataroot. Symbolic links are followed: linking `samples/` to another
            disk is common, so only the name itself is judged.
    """
    parts = Path(filename)
    if not filename or parts.is_absolute() or ".." in parts.parts:
        raise DatasetError(
            f"the table names a file outside the dataroot: {filename!r}",
            path=table,
            remedy=f"{take_again(table)}; in one of your own, write names relative to the dataroot, without ..",
        )
    return str(dataroot.absolute() / parts)


def _opened(dataroot: Path, version: str, tables: dict[str, Rows]) -> Any:
    # imported here: the devkit takes seconds, and workers that only read files never need it
    with extra("nuscenes"):
        from nuscenes.nuscenes import NuScenes

    class Opened(NuScenes):
        """Takes the tables that were checked instead of reading them again."""

        def __load_table__(self, table_name: str) -> Rows:
            return tables[table_name] if table_name in tables else super().__load_table__(table_name)

    try:
        return Opened(version=version, dataroot=str(dataroot), verbose=False)
    except Exception as error:  # the devkit raises AssertionError, KeyError and bare Exception for its own checks
        raise DatasetError(
            f"the devkit refuses the tables: {error!r}",
            path=dataroot / version,
            remedy="Compare them with those of nuScenes, table by table, or ask for help with this message",
        ) from error


def _rows(folder: Path, name: str) -> Rows:
    """One table, each row with a token of its own and the columns that are read."""
    path = folder / f"{name}.json"
    if not path.is_file():
        raise DatasetError(f"table {name} is missing", path=path, remedy=take_again(path))
    rows = _load(path, take_again(path))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DatasetError(f"table {name} is not a list of rows", path=path, remedy=take_again(path))
    for column, kind in {"token": str, **_COLUMNS.get(name, {})}.items():
        without = next((number for number, row in enumerate(rows) if not isinstance(row.get(column), kind)), None)
        if without is not None:
            raise DatasetError(
                f"row {without} of table {name} has no usable {column}", path=path, remedy=take_again(path)
            )
    twice = [token for token, count in Counter(row["token"] for row in rows).items() if count > 1]
    if twice:
        raise DatasetError(
            f"table {name} has {len(twice)} tokens twice, the first is {twice[0]}",
            path=path,
            remedy=f"{take_again(path)}; where tables were joined, keep one row of each token",
        )
    return rows


def _check_references(folder: Path, tables: dict[str, Rows]) -> None:
    tokens = {target: {row["token"] for row in tables[target]} for _, _, target in _REFERENCES}
    for table, column, target in _REFERENCES:
        for row in tables[table]:
            token = row.get(column)
            if not isinstance(token, str) or token not in tokens[target]:
                where = f" of {row['filename']}" if "filename" in row else ""
                path = folder / f"{target}.json"
                raise DatasetError(
                    f"{target} {token}, which {table} {row['token']}{where} needs, is missing",
                    path=path,
                    remedy=f"{take_again(path)}; if it still is, {table}.json is of another version: take that again",
                )


def _check_maps(folder: Path, tables: dict[str, Rows]) -> None:
    """The devkit opens no dataroot without a map for each log."""
    path = folder / "map.json"
    mapped = {token for row in tables["map"] for token in row["log_tokens"] if isinstance(token, str)}
    without = next((row["token"] for row in tables["log"] if row["token"] not in mapped), None)
    if without is not None or not tables["map"]:
        raise DatasetError(f"no map names log {without}", path=path, remedy=take_again(path))
    for row in tables["map"]:
        image = Path(inside_dataroot(folder.parent, row["filename"], path))
        if not image.is_file():
            archive = _METADATA.get(folder.name, "where the data set comes from")
            raise DatasetError(
                "a map mask is missing",
                path=image,
                remedy=f"Take the folder maps/ again from {archive}; nothing of ovps reads it, but the devkit asks for"
                " it: any small grey image will do",
            )


def _check_categories(folder: Path, rows: Rows) -> None:
    """Labels need the category.json that came with them: every other archive has one of its own, without `index`."""
    with extra("nuscenes"):
        from nuscenes.utils.color_map import get_colormap

    path = folder / "category.json"
    without = [row["name"] for row in rows if not isinstance(row.get("index"), int)]
    if without:
        raise DatasetError(
            f"{len(without)} of {len(rows)} categories have no index: this is the category.json of the metadata"
            " archive, unpacked over that of the labels",
            path=path,
            remedy=take_again(path),
        )
    unknown = [row["name"] for row in rows if row["name"] not in get_colormap()]
    if unknown:
        raise DatasetError(
            f"the devkit knows no category {unknown[0]!r}", path=path, remedy=f"{take_again(path)}, with its 32 names"
        )


def _check_label_files(dataroot: Path, version: str, kind: str, rows: Rows) -> None:
    """The devkit counts the files in the folder of labels and wants one for each row."""
    folder = dataroot / kind / version
    labels = f"Unpack {kind}/{version} again from {label_archive(kind, version)}"
    table = dataroot / version / f"{kind}.json"
    if not folder.is_dir():
        remedy = f"{labels}, or, to do without these labels, remove {table}"
        raise DatasetError(f"there is a table {kind} but no folder of its files", path=folder, remedy=remedy)
    named = {Path(inside_dataroot(dataroot, row["filename"], table)).name for row in rows}
    there = {file.name for file in folder.iterdir() if file.suffix in (".bin", ".npz")}
    strays = sorted(name for name in there if name.startswith("._"))
    if strays:
        raise DatasetError(
            f"{len(strays)} `._` files of macOS lie among the labels, the first is {strays[0]}",
            path=folder,
            remedy=f"Delete them: find '{folder}' -name '._*' -delete",
        )
    for message, names, remedy in (
        ("has no file", sorted(named - there), labels),
        (
            "has files that its table does not name",
            sorted(there - named),
            f"Move them elsewhere. If they do belong there: {take_again(table)}",
        ),
    ):
        if names:
            count = f"{len(names)} of {len(named | there)}, the first is {names[0]}"
            raise DatasetError(f"the folder of {kind} labels {message}: {count}", path=folder, remedy=remedy)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _has_labels(folder: Path) -> bool:
    return any((folder / f"{name}.json").is_file() for name in _LABELS)


def _load(path: Path, remedy: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        message = "the file is not UTF-8, as JSON is"
        raise DatasetError(message, path=path, remedy=f"Save it as UTF-8. {remedy}") from error
    except json.JSONDecodeError as error:
        raise DatasetError(f"not JSON: {error}", path=path, remedy=remedy) from error
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", path=path, remedy=remedy) from error
