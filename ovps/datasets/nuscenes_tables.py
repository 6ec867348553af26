"""The tables of a nuScenes dataroot: those that frames are made of, checked, and joined no further than needed.

The tables of v1.0-trainval have 2.6 million rows of sensor data and as many poses. Of these only key frames and their
poses are kept. Annotations (boxes), maps, lidarseg and radar are not read and need not be there.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product
from pathlib import Path, PurePosixPath

import yaml

from ovps.datasets.near_names import refuse_other_case, said_beside
from ovps.datasets.nuscenes_rows import Row, read_json, read_rows
from ovps.datasets.splits import check_apart, missing_scenes, unnamed_scenes
from ovps.errors import DatasetError, listed
from ovps.taxonomy import Taxonomy

LIDAR = "LIDAR_TOP"
SPLITS = "splits.json"
_PANOPTIC = {"v1.0-mini": "nuScenes-panoptic-v1.0-mini.tar.gz"}
_PANOPTIC_OF_ALL = "nuScenes-panoptic-v1.0-all.tar.gz"
_METADATA = {"v1.0-mini": "v1.0-mini.tgz", "v1.0-test": "v1.0-test_meta.tgz", "v1.0-trainval": "v1.0-trainval_meta.tgz"}

# what is read of a table besides `token`
_COLUMNS: dict[str, dict[str, type]] = {
    "category": {"name": str},
    "sensor": {"channel": str, "modality": str},
    "calibrated_sensor": {"sensor_token": str},
    "ego_pose": {},
    "scene": {"name": str},
    "sample": {"scene_token": str, "timestamp": int},
    "sample_data": {
        "sample_token": str,
        "ego_pose_token": str,
        "calibrated_sensor_token": str,
        "filename": str,
        "is_key_frame": bool,
        "timestamp": int,
    },
    "panoptic": {"filename": str, "sample_data_token": str},
}


@dataclass(frozen=True, eq=False)
class Sample:
    """A key frame.

    Attributes:
        scene: name.
        index: position in the scene, by time.
        data: rows of sample_data by channel: one of the LiDAR, one of each camera.
        earlier: rows of the LiDAR's sweeps before it, the latest first.
    """

    token: str
    scene: str
    subset: str
    index: int
    data: dict[str, Row]
    earlier: list[Row]


@dataclass(frozen=True, eq=False)
class Tables:
    """Tables that frames are made of.

    Attributes:
        samples: scene after scene, each in order of time.
        cameras: channels, sorted by name.
        calibrated_sensor: rows by token.
        ego_pose: rows by token, as far as `samples` need them.
        labels: file of the panoptic labels by token of the sweep; empty where the version has none.
    """

    dataroot: Path
    version: str
    samples: list[Sample]
    cameras: list[str]
    calibrated_sensor: dict[str, Row]
    ego_pose: dict[str, Row]
    labels: dict[str, str]

    def path(self, table: str) -> Path:
        """The file of a table."""
        return self.dataroot / self.version / f"{table}.json"


def read_tables(dataroot: Path, version: str, subsets: Collection[str], taxonomy: Taxonomy, sweeps: int = 0) -> Tables:
    """Read and join the tables of a version, as far as the scenes of some splits need them.

    Tables may begin with a byte order mark, as some editors write it.

    Args:
        subsets: names of splits, see `NuScenes.frames`.
        taxonomy: whose raw classes the categories of the labels must be.
        sweeps: earlier ones of each sample, at most.

    Raises:
        DatasetError: no such folder, version or split; a table that is missing, not JSON, not rows with the columns it
            needs, or has a token twice; a reference into nothing; label files that do not fit their table.
    """
    folder = _folder(dataroot, version)
    scenes = {row["token"]: row["name"] for row in _rows(folder, "scene")}
    custom = custom_splits(folder)
    also = ", or ask for one of them alone, for a store of its own"
    check_apart({name: custom[name] for name in subsets if name in custom}, folder / SPLITS, also=also)
    subset_of: dict[str, str] = {}
    for subset in subsets:
        for scene in scenes_of_subset(folder, list(scenes.values()), subset):
            subset_of.setdefault(scene, subset)
    labels = _labels(folder, taxonomy)
    calibrated = {row["token"]: row for row in _rows(folder, "calibrated_sensor")}
    channels, cameras = _sensors(folder, calibrated)
    in_scene, known = _samples(folder, scenes, subset_of)
    chosen = {row["token"] for rows in in_scene.values() for row in rows}
    rows = _sensor_data(folder, chosen, known, channels, {LIDAR, *cameras}, sweeps > 0)
    data = [row for row in rows if row["is_key_frame"]]
    earlier = _earlier(folder, rows, channels, sweeps) if sweeps else {}
    needed = [*data, *(row for before in earlier.values() for row in before)]
    poses = {row["ego_pose_token"] for row in needed}
    ego_pose = {row["token"]: row for row in _rows(folder, "ego_pose", lambda row: row["token"] in poses)}
    _check_references(folder, "sample_data", needed, "ego_pose", ego_pose)
    by_sample: dict[str, dict[str, Row]] = {token: {} for token in chosen}
    for row in data:
        channel = channels[row["calibrated_sensor_token"]]
        if by_sample[row["sample_token"]].setdefault(channel, row) is not row:
            path = folder / "sample_data.json"
            raise DatasetError(
                f"sample {row['sample_token']} has two key frames of {channel}", path=path, remedy=take_again(path)
            )
    samples = [
        Sample(
            row["token"],
            scenes[scene],
            subset_of[scenes[scene]],
            index,
            by_sample[row["token"]],
            earlier.get(by_sample[row["token"]].get(LIDAR, row)["token"], []),
        )
        for scene, rows in in_scene.items()
        for index, row in enumerate(sorted(rows, key=lambda row: row["timestamp"]))
    ]
    _check_sensors(folder, samples, (LIDAR, *cameras))
    return Tables(dataroot, version, samples, cameras, calibrated, ego_pose, labels)


def _folder(dataroot: Path, version: str) -> Path:
    folder = dataroot / version
    if not dataroot.is_dir():
        raise DatasetError(
            "no such dataroot", path=dataroot, remedy="It is the folder that holds samples and the folder of the tables"
        )
    if not folder.is_dir():
        found = sorted(p.name for p in dataroot.iterdir() if (p / "sample_data.json").is_file())
        unpack = f"Unpack {_METADATA.get(version, 'the archive of its tables')} into the dataroot"
        raise DatasetError(
            f"the dataroot has no version {version!r}",
            path=folder,
            remedy=f"It has: {', '.join(found)}" if found else unpack,
        )
    return folder


def take_again(path: Path) -> str:
    """The remedy for a table that is not as it was shipped: where that one file comes from.

    Unpacking a whole archive would put its own category.json over the one that came with the labels.
    """
    version, table = path.parent.name, path.stem
    if (path.parent.parent / ".scenes").is_dir():
        return "Delete this drive world and build it again: ovps world build"
    labelled = table == "panoptic" or (table == "category" and (path.parent / "panoptic.json").is_file())
    archive = label_archive(version) if labelled else _METADATA.get(version)
    if archive is None:
        return f"Take {path.name} again from where the data set comes from"
    return f"Take {path.name} again from {archive}, and no other table with it"


def label_archive(version: str) -> str:
    """The archive that holds the panoptic labels of a version."""
    return _PANOPTIC.get(version, _PANOPTIC_OF_ALL)


@cache
def official_splits() -> dict[str, list[str]]:
    """Names of the scenes of the official splits of nuScenes, by split."""
    text = (resources.files("ovps") / "configs" / "nuscenes_splits.yaml").read_text(encoding="utf-8")
    return {split: [f"scene-{number:04d}" for number in numbers] for split, numbers in yaml.safe_load(text).items()}


def custom_splits(folder: Path) -> dict[str, list[str]]:
    """Names of the scenes of the splits that `splits.json` of a version names, by split; none without that file.

    Raises:
        DatasetError: it is not an object of lists of names.
    """
    file = folder / SPLITS
    refuse_other_case(folder, [file.name])
    custom = read_json(file, 'Write {"train": ["scene-0001"], ...}') if file.is_file() else {}
    if not isinstance(custom, dict) or not all(_is_names(names) for names in custom.values()):
        raise DatasetError(
            "splits.json is not an object of lists of scenes",
            path=file,
            remedy='Write {"train": ["scene-0001"], ...}',
        )
    return custom


def split_warnings(folder: Path, subsets: Collection[str]) -> list[str]:
    """Warnings of what `splits.json` of a version says of some splits and may not be meant, and of scenes of no split.

    Raises:
        DatasetError: as `custom_splits`, or no table of scenes.
    """
    custom, official = custom_splits(folder), official_splits()
    named = {subset: custom[subset] for subset in subsets if subset in custom}
    there = {row["name"] for row in _rows(folder, "scene")}
    found = [
        *missing_scenes(named, there, folder / SPLITS, "scene"),
        *unnamed_scenes([*official.values(), *custom.values()], there, folder / SPLITS, "scene"),
    ]
    for mine, theirs in product(named, [subset for subset in subsets if subset in official.keys() - custom.keys()]):
        both = [scene for scene in named[mine] if scene in there.intersection(official[theirs])]
        if both:
            found.append(
                f"scene {listed(both)} in split {mine} of {folder / SPLITS} and in the official {theirs}, both asked"
                " for: its frames are in the one that was named first"
            )
    return found


def shared_calibrations(folder: Path) -> list[str]:
    """Warnings of cameras that `calibrated_sensor.json` has in one and the same pose, a sentence for each two.

    Their poses at their own times tell it no more: the vehicle moves between two images.

    Raises:
        DatasetError: no such tables, or damaged ones.
    """
    channels = {row["token"]: row["channel"] for row in _rows(folder, "sensor") if row["modality"] == "camera"}
    found: dict[str, set[str]] = {}
    for row in _rows(folder, "calibrated_sensor"):
        if row["sensor_token"] in channels:
            pose = f"{row.get('translation')} {row.get('rotation')}"
            found.setdefault(pose, set()).add(channels[row["sensor_token"]])
    shared = dict.fromkeys(tuple(sorted(cameras)) for cameras in found.values() if len(cameras) > 1)
    return [
        f"{', '.join(cameras)} have one and the same pose in {folder / 'calibrated_sensor.json'}: that of one may be a"
        " copy of another's"
        for cameras in shared
    ]


def scenes_of_subset(folder: Path, scenes: Sequence[str], subset: str) -> list[str]:
    """Names of the scenes of a split that a version holds.

    A split that `splits.json` names is what that says, official or not.

    Args:
        folder: of the version.
        scenes: that it holds.

    Raises:
        DatasetError: no such split, or none of its scenes is present.
    """
    file = folder / SPLITS
    official, custom = official_splits(), custom_splits(folder)
    members = custom.get(subset, official.get(subset))
    if members is None:
        raise DatasetError(
            f"no split named {subset!r}",
            path=file,
            remedy=f"Name it in splits.json, or use one of: {', '.join({**custom, **official})}",
        )
    wanted = set(members)
    present = [scene for scene in scenes if scene in wanted]
    if not present:
        others = [split for split, names in (official | custom).items() if set(names) & set(scenes)]
        found = f"scenes of {', '.join(others)} are" if others else "of no split at all is any"
        raise DatasetError(
            f"none of the {len(members)} scenes of split {subset!r} is in version {folder.name}; {found} there",
            path=file if subset in custom else folder,
            remedy="Choose another split or version, or name scenes that are present in splits.json",
        )
    return present


def inside_dataroot(dataroot: str, filename: str, table: Path) -> str:
    """The path of a file that a table names, below `dataroot`.

    Raises:
        DatasetError: the name leads out of the dataroot. Symbolic links are followed: linking `samples/` to another
            disk is common, so only the name itself is judged.
    """
    if not filename or "\0" in filename or filename.startswith("/") or ".." in filename.split("/"):
        raise DatasetError(
            f"the table names a file outside the dataroot: {filename!r}",
            path=table,
            remedy=f"{take_again(table)}; in one of your own, write names relative to the dataroot, without ..",
        )
    return f"{dataroot}/{filename}"


def _rows(folder: Path, name: str, keep: Callable[[Row], bool] | None = None) -> list[Row]:
    path = folder / f"{name}.json"
    return read_rows(path, _COLUMNS[name], take_again(path), keep=keep)


def _sensors(folder: Path, calibrated: dict[str, Row]) -> tuple[dict[str, str], list[str]]:
    """The channel of each calibrated sensor by token, and the channels of cameras."""
    sensors = {row["token"]: row for row in _rows(folder, "sensor")}
    _check_references(folder, "calibrated_sensor", calibrated.values(), "sensor", sensors)
    cameras = sorted({row["channel"] for row in sensors.values() if row["modality"] == "camera"})
    return {token: sensors[row["sensor_token"]]["channel"] for token, row in calibrated.items()}, cameras


def _samples(folder: Path, scenes: dict[str, str], chosen: Collection[str]) -> tuple[dict[str, list[Row]], set[str]]:
    """Rows of sample by token of their scene, for scenes whose names are chosen, and the tokens of all samples."""
    rows = _rows(folder, "sample")
    _check_references(folder, "sample", rows, "scene", scenes)
    in_scene: dict[str, list[Row]] = {token: [] for token, name in scenes.items() if name in chosen}
    for row in rows:
        if row["scene_token"] in in_scene:
            in_scene[row["scene_token"]].append(row)
    return in_scene, {row["token"] for row in rows}


def _sensor_data(
    folder: Path, chosen: set[str], known: set[str], channels: dict[str, str], wanted: set[str], sweeps: bool
) -> list[Row]:
    """Rows of sample_data of the samples that are chosen: key frames of the sensors that are wanted, and, with
    `sweeps`, what else the LiDAR has.
    """
    unknown = None  # a sensor or sample that is missing is told of, not passed over

    def keep(row: Row) -> bool:
        return (
            (row["is_key_frame"] or (sweeps and channels.get(row["calibrated_sensor_token"]) == LIDAR))
            and (row["sample_token"] in chosen or row["sample_token"] not in known)
            and channels.get(row["calibrated_sensor_token"], unknown) in (*wanted, unknown)
        )

    rows = _rows(folder, "sample_data", keep)
    _check_references(folder, "sample_data", rows, "sample", known)
    _check_references(folder, "sample_data", rows, "calibrated_sensor", channels)
    return rows


def _earlier(folder: Path, rows: Iterable[Row], channels: dict[str, str], sweeps: int) -> dict[str, list[Row]]:
    """Up to `sweeps` rows before each of the LiDAR's key frames, the latest first, by token of the key frame."""
    lidar = {row["token"]: row for row in rows if channels[row["calibrated_sensor_token"]] == LIDAR}
    path = folder / "sample_data.json"
    earlier: dict[str, list[Row]] = {}
    for row in lidar.values():
        if not row["is_key_frame"]:
            continue
        found = earlier[row["token"]] = []
        while len(found) < sweeps and (token := (found or [row])[-1].get("prev")):
            if token not in lidar:
                raise DatasetError(
                    f"sweep {token}, which lies before {row['filename']}, is missing",
                    path=path,
                    remedy=f"{take_again(path)}, or use no earlier sweeps",
                )
            after = (found or [row])[-1]
            if lidar[token]["timestamp"] >= after["timestamp"]:
                raise DatasetError(
                    f"sweep {token} is named as the one before {after['token']} and is not earlier:"
                    f" {lidar[token]['timestamp']} us, {after['timestamp']} us",
                    path=path,
                    remedy=f"{take_again(path)}, or use no earlier sweeps",
                )
            found.append(lidar[token])
    return earlier


def _check_references(folder: Path, table: str, rows: Iterable[Row], target: str, tokens: Collection[str]) -> None:
    for row in rows:
        token = row[f"{target}_token"]
        if token not in tokens:
            where = f" of {row['filename']}" if "filename" in row else ""
            path = folder / f"{target}.json"
            raise DatasetError(
                f"{target} {token}, which {table} {row['token']}{where} needs, is missing",
                path=path,
                remedy=f"{take_again(path)}; if it still is, {table}.json is of another version: take that again",
            )


def _check_sensors(folder: Path, samples: Iterable[Sample], channels: Sequence[str]) -> None:
    for sample in samples:
        for channel in channels:
            if channel not in sample.data:
                path = folder / "sample_data.json"
                raise DatasetError(
                    f"sample {sample.token} has no key frame of {channel}",
                    path=path,
                    remedy=f"{take_again(path)}; in a data set of your own every sample has one of each sensor",
                )


def _labels(folder: Path, taxonomy: Taxonomy) -> dict[str, str]:
    """File of the panoptic labels by token of the sweep; none where there is no table of them."""
    refuse_other_case(folder, ["panoptic.json"])
    if not (folder / "panoptic.json").is_file():
        return {}
    _check_categories(folder, taxonomy)
    rows = _rows(folder, "panoptic")
    _check_label_files(folder, rows)
    token, count = Counter(row["sample_data_token"] for row in rows).most_common(1)[0] if rows else ("", 0)
    if count > 1:
        path = folder / "panoptic.json"
        raise DatasetError(f"{count} rows are of the sweep {token}", path=path, remedy=take_again(path))
    return {row["sample_data_token"]: row["filename"] for row in rows}


def _check_categories(folder: Path, taxonomy: Taxonomy) -> None:
    """Labels need the category.json that came with them: every other archive has one of its own, without `index`."""
    path = folder / "category.json"
    rows = _rows(folder, "category")
    without = [row["name"] for row in rows if not isinstance(row.get("index"), int)]
    if without:
        raise DatasetError(
            f"{len(without)} of {len(rows)} categories have no index: this is the category.json of the metadata"
            " archive, unpacked over that of the labels",
            path=path,
            remedy=take_again(path),
        )
    for row in rows:
        official = taxonomy.raw_names.get(row["index"])
        if row["name"] != official:
            raise DatasetError(
                f"category {row['index']} is {row['name']!r}, in nuScenes it is {official!r}",
                path=path,
                remedy=f"{take_again(path)}, with its {len(taxonomy.raw_names)} names",
            )


def _check_label_files(folder: Path, rows: Sequence[Row]) -> None:
    """Every row has a file, and every file a row: else labels are of another version than their table."""
    version, table = folder.name, folder / "panoptic.json"
    files = folder.parent / "panoptic" / version
    labels = f"Unpack panoptic/{version} again from {label_archive(version)}"
    if not files.is_dir():
        remedy = f"{labels}, or, to do without these labels, remove {table}"
        raise DatasetError("there is a table panoptic but no folder of its files", path=files, remedy=remedy)
    named = {PurePosixPath(inside_dataroot("", row["filename"], table)).name for row in rows}
    there = {name for name in os.listdir(files) if name.endswith(".npz")}
    strays = sorted(name for name in there if name.startswith("._"))
    if strays:
        raise DatasetError(
            f"{len(strays)} `._` files of macOS lie among the labels, the first is {strays[0]}",
            path=files,
            remedy=f"Delete them: find '{files}' -name '._*' -delete",
        )
    lacking = sorted(named - there)
    beside, again = said_beside(files / lacking[0], labels) if lacking else ("", labels)
    for message, names, more, remedy in (
        ("has no file", lacking, beside, again),
        (
            "has files that its table does not name",
            sorted(there - named),
            "",
            f"Move them elsewhere. If they do belong there: {take_again(table)}",
        ),
    ):
        if names:
            count = f"{len(names)} of {len(named | there)}, the first is {names[0]}{more}"
            raise DatasetError(f"the folder of panoptic labels {message}: {count}", path=files, remedy=remedy)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
