"""Corrupt nuScenes data: tables, sweeps, labels and images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.corrupt import damage as d
from tests.corrupt.campaign import Campaign, Case, cases
from tests.helpers.mini_nuscenes import VERSION, write_mini_nuscenes

NAME = "mini-0001-000"
COLUMNS = 5


@pytest.fixture(scope="module")
def campaign(tmp_path_factory) -> Campaign:
    folder = tmp_path_factory.mktemp("corrupt_nuscenes")
    root = write_mini_nuscenes(folder / "clean", scenes=1, frames=2)
    return Campaign.of(root, folder / "zarr", dataset="nuscenes", subsets=("train",))


def sweep(root: Path) -> Path:
    return root / f"samples/LIDAR_TOP/{NAME}.pcd.bin"


def picture(root: Path) -> Path:
    return root / f"samples/CAM_BACK/{NAME}.jpg"


def labels(root: Path) -> Path:
    rows = json.loads((root / VERSION / "panoptic.json").read_text())
    return root / rows[0]["filename"]


def table(name: str):
    return lambda root: root / VERSION / f"{name}.json"


def rows(name: str, change) -> d.Damage:
    """Change the rows of a table."""

    def damage(root: Path) -> None:
        path = table(name)(root)
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return damage


def column(name: str, wanted: dict[str, str], **values: Any) -> d.Damage:
    """Other values in the rows of a table in which all of `wanted` occur; all rows where it is empty."""

    def change(found):
        return [row | values if all(v in str(row[k]) for k, v in wanted.items()) else row for row in found]

    return rows(name, change)


def of_camera(change) -> d.Damage:
    """Change the rows of the calibration of CAM_BACK."""

    def damage(root: Path) -> None:
        sensor = next(r for r in json.loads(table("sensor")(root).read_text()) if r["channel"] == "CAM_BACK")
        rows(
            "calibrated_sensor",
            lambda found: [change([r])[0] if r["sensor_token"] == sensor["token"] else r for r in found],
        )(root)

    return damage


def camera(**values: Any) -> d.Damage:
    """Other values in the calibration of CAM_BACK."""
    return of_camera(lambda found: [row | values for row in found])


def panoptic(change, **options) -> d.Damage:
    """Change the panoptic labels, (N,) uint16."""

    def damage(root: Path) -> None:
        path = labels(root)
        with np.load(path) as file:
            data = file["data"]
        np.savez_compressed(path, **{options.get("key", "data"): change(data)})

    return damage


def set_label(value: int):
    def change(data: np.ndarray) -> np.ndarray:
        data = data.copy()
        data[5] = value
        return data

    return change


def without_column(name: str):
    return lambda found: [{key: value for key, value in row.items() if key != name} for row in found]


def swapped(found: list) -> list:
    return [row | {"rotation": [*row["rotation"][1:], row["rotation"][0]]} for row in found]


def to_the_left(found: list) -> list:
    """Cars turned by 100 degrees, in the order x y z w: taken for w x y z, one that looks along x would stand, too."""
    return [row | {"rotation": [0, 0, math.sin(math.radians(50)), math.cos(math.radians(50))]} for row in found]


def looking_up(found: list) -> list:
    return [row | ({"rotation": [1, 0, 0, 0]} if row["camera_intrinsic"] else {}) for row in found]


def infinite(text: str) -> str:
    return text.replace('"translation": [', '"translation": [Infinity, ', 1)


def see_through(opened: Image.Image) -> Image.Image:
    return opened.convert("RGBA").point(lambda value: value // 2)


TURNED = Image.Exif()
TURNED[0x0112] = 6  # orientation: a quarter to the right


def without_first(found: list) -> list:
    return found[1:]


def twice(found: list) -> list:
    return [*found, found[0]]


def pickled(root: Path) -> None:
    np.savez(labels(root), data=np.array([{"a": 1}], dtype=object))


def without_intensity(root: Path) -> None:
    for path in (root / "samples/LIDAR_TOP").iterdir():
        d.points(lambda _, path=path: path, COLUMNS, lambda rows: rows * np.float32([1, 1, 1, 0, 1]))(root)


SWEEPS = (
    Case("sweep missing", d.removed(sweep), "quarantined", NAME),
    Case("sweep of 0 bytes", d.cut(sweep, 0), "quarantined", NAME),
    Case("sweep cut within a row", d.cut(sweep, 777), "quarantined", NAME),
    Case("sweep cut within a value", d.cut(sweep, 1001), "quarantined", NAME),
    Case("sweep cut at a row", d.cut(sweep, 20 * 300), "quarantined", "300"),
    Case("sweep of one point", d.cut(sweep, 20), "quarantined", ""),
    Case("sweep that is a folder", d.as_folder(sweep), "quarantined", NAME),
    Case("sweep that links to itself", d.looped(sweep), "quarantined", NAME),
    Case("sweep that is an image", lambda r: sweep(r).write_bytes(picture(r).read_bytes()), "quarantined", NAME),
    Case("sweep that is text", d.replaced(sweep, b"x y z intensity ring\n" * 40), "quarantined", NAME),
    Case("sweep with a NaN", d.points(sweep, COLUMNS, d.with_value(np.nan)), "quarantined", "NaN|finite"),
    Case("sweep with an infinity", d.points(sweep, COLUMNS, d.with_value(np.inf)), "quarantined", "inf|finite"),
    Case("sweep with a NaN of intensity", d.points(sweep, COLUMNS, d.with_value(np.nan, columns=slice(3, 4))),
         "quarantined", "NaN|finite"),
    Case("sweep of zeros", d.points(sweep, COLUMNS, np.zeros_like), "quarantined", NAME),
    Case("sweep of four columns", d.points(sweep, COLUMNS, lambda rows: rows[:, :4]), "quarantined", NAME),
    Case("sweep of six columns", d.points(sweep, COLUMNS, lambda rows: np.hstack([rows, rows[:, :1]])),
         "quarantined", NAME),
    Case("sweep in float64", d.points(sweep, COLUMNS, lambda rows: rows, "float64"), "quarantined", NAME),
    Case("sweep in float16", d.points(sweep, COLUMNS, lambda rows: rows, "float16"), "quarantined", NAME),
    Case("sweep in big endian", d.points(sweep, COLUMNS, lambda rows: rows, ">f4"), "quarantined", NAME),
    Case("sweep in which 3 of 10 pulses had no return", d.points(sweep, COLUMNS, d.without_return),
         "quarantined", r"\(0, 0, 0\), pulses without a return"),
    Case("sweep in millimetres", d.points(sweep, COLUMNS, lambda rows: rows * np.float32([1000, 1000, 1000, 1, 1])),
         "quarantined", "1000 m"),
    Case("sweep in global coordinates",
         d.points(sweep, COLUMNS, lambda rows: rows + np.float32([411, 1180, 0, 0, 0])), "quarantined", "1000 m"),
    Case("sweep in the frame of the drive's start",
         d.points(sweep, COLUMNS, lambda rows: rows + np.float32([90, 20, 0, 0, 0])), "warned", "the frame of a map",
         store_changes=True),
    Case("sweeps without an intensity", without_intensity, "warned", "no point has an intensity", store_changes=True),
    Case("sweep linked from outside", d.outside(sweep), "taken"),
)  # fmt: skip

LABELS = (
    Case("labels missing", lambda r: labels(r).unlink(), "refused", "panoptic"),
    Case("labels of 0 bytes", d.cut(labels, 0), "quarantined", "panoptic"),
    Case("labels cut", d.cut(labels, -40), "quarantined", "panoptic"),
    Case("labels that are text", d.replaced(labels, b"1000 2000"), "quarantined", "panoptic"),
    Case("labels under another key", panoptic(lambda x: x, key="labels"), "quarantined", "data"),
    Case("labels of fewer points", panoptic(lambda x: x[:-1]), "quarantined", "399"),
    Case("labels of more points", panoptic(lambda x: np.append(x, x[:1])), "quarantined", "401"),
    Case("labels of no points", panoptic(lambda x: x[:0]), "quarantined", "0"),
    Case("labels in float", panoptic(lambda x: x.astype(np.float32)), "quarantined", "float32"),
    Case("labels in two dimensions", panoptic(lambda x: x[:, None]), "quarantined", "panoptic"),
    Case("labels of an unknown class", panoptic(set_label(60_001)), "quarantined", "60"),
    Case("labels below zero", panoptic(lambda x: -x.astype(np.int32)), "quarantined", "panoptic"),
    Case("labels above 16 bits", panoptic(lambda x: x.astype(np.uint32) + 70_000), "quarantined", "panoptic"),
    Case("labels in a pickle", pickled, "quarantined", "panoptic"),
    Case("labels in uint32", panoptic(lambda x: x.astype(np.uint32)), "quarantined", "uint32"),
    Case("labels in int64", panoptic(lambda x: x.astype(np.int64)), "quarantined", "int64"),
    Case("labels linked from outside", d.outside(labels), "taken"),
    Case("stuff with an instance", panoptic(lambda x: np.where(x == 24_000, 24_007, x)), "taken", store_changes=True),
)

IMAGES = (
    Case("image missing", d.removed(picture), "quarantined", NAME),
    Case("image of 0 bytes", d.cut(picture, 0), "quarantined", NAME),
    Case("image cut", d.cut(picture, -300), "quarantined", NAME),
    Case("image cut to its head", d.cut(picture, 100), "quarantined", NAME),
    Case("image that is text", d.replaced(picture, b"not an image at all"), "quarantined", NAME),
    Case("image that is a web page", d.replaced(picture, b"<html>404</html>"), "quarantined", NAME),
    Case("image that is a folder", d.as_folder(picture), "quarantined", NAME),
    Case("image that links to itself", d.looped(picture), "quarantined", NAME),
    Case("image of another size", d.image(picture, lambda i: i.resize((64, 36))), "quarantined", "64"),
    Case("image turned on its side", d.image(picture, lambda i: i.transpose(Image.Transpose.ROTATE_90)),
         "quarantined", NAME),
    Case("image of one pixel", d.image(picture, lambda i: i.resize((1, 1))), "quarantined", NAME),
    Case("image with 16 bits", d.image(picture, lambda i: i.convert("I;16"), "PNG"), "quarantined", NAME),
    Case("image in floats", d.image(picture, lambda i: i.convert("F"), "TIFF"), "quarantined", NAME),
    Case("image in CMYK", d.image(picture, lambda i: i.convert("CMYK")), "quarantined", NAME),
    Case("image with a palette", d.image(picture, lambda i: i.quantize(16), "PNG"), "taken", store_changes=True),
    Case("image that is see-through", d.image(picture, see_through, "PNG"), "quarantined", NAME),
    Case("image turned by EXIF", d.image(picture, lambda i: i, exif=TURNED.tobytes()),
         "quarantined", NAME),
    Case("image that unpacks to gigabytes", d.bomb(picture), "quarantined", NAME),
    Case("image as a PNG", d.image(picture, lambda i: i.convert("RGB"), "PNG"), "taken"),
    Case("image linked from outside", d.outside(picture), "taken"),
)  # fmt: skip

UNIT = np.eye(3).tolist()
TABLES = (
    *(Case(f"table {name} missing", d.removed(table(name)), "refused", name)
      for name in ("scene", "sample", "sample_data", "calibrated_sensor", "ego_pose", "sensor", "category")),
    Case("table cut", d.cut(table("sample_data"), -200), "refused", "sample_data"),
    Case("table of 0 bytes", d.cut(table("sample"), 0), "refused", "sample"),
    Case("table that is no list", d.replaced(table("scene"), b'{"scene": 1}'), "refused", "scene"),
    Case("table of numbers", d.replaced(table("ego_pose"), b"[1, 2, 3]"), "refused", "ego_pose"),
    Case("table without rows", d.replaced(table("scene"), b"[]"), "refused", "scene"),
    Case("table of a hundred thousand brackets", d.replaced(table("scene"), b"[" * 100_000), "refused", "scene"),
    Case("table in UTF-16", d.text(table("scene"), str, "utf-16"), "refused", "scene"),
    Case("table with a BOM", d.text(table("sample"), lambda t: "\ufeff" + t), "taken"),
    Case("table with CRLF", d.text(table("sample"), lambda t: t.replace(", ", ",\r\n")), "taken"),
    Case("scene twice", rows("scene", twice), "refused", "scene"),
    Case("a second scene of a name, without samples",
         rows("scene", lambda r: [*r, r[0] | {"token": "f" * 32}]), "taken"),
    Case("sample twice", rows("sample", twice), "refused", "sample"),
    Case("sample_data twice", rows("sample_data", twice), "refused", "sample_data"),
    Case("calibration twice", rows("calibrated_sensor", twice), "refused", "calibrated_sensor"),
    Case("first sample missing", rows("sample", without_first), "refused", "sample"),
    Case("row without a column", rows("sample", without_column("timestamp")),
         "refused", "timestamp"),
    Case("time as text", column("sample_data", {}, timestamp="noon"), "refused", "timestamp"),
    Case("file name that leaves the root",
         column("sample_data", {"filename": NAME + ".jpg"}, filename="../../etc/passwd"), "refused", "passwd"),
    Case("file name from the root of the disk",
         column("sample_data", {"filename": "CAM_BACK/"}, filename="/etc/hostname"), "refused", "hostname"),
    Case("file name that is a number", column("sample_data", {"filename": "CAM_BACK/"}, filename=7), "refused", ""),
    Case("intrinsics identity", camera(camera_intrinsic=UNIT), "refused", "identity"),
    Case("intrinsics zero", camera(camera_intrinsic=(np.zeros((3, 3))).tolist()), "refused", "CAM_BACK"),
    Case("intrinsics from 0 to 1", camera(camera_intrinsic=[[0.8, 0, 0.5], [0, 1.42, 0.5], [0, 0, 1]]),
         "refused", "normalised"),
    Case("intrinsics transposed", camera(camera_intrinsic=[[102.4, 0, 0], [0, 102.4, 0], [64, 36, 1]]),
         "refused", "transposed"),
    Case("intrinsics of 2 x 2", camera(camera_intrinsic=[[1, 0], [0, 1]]), "refused", "camera_intrinsic"),
    Case("intrinsics empty", camera(camera_intrinsic=[]), "refused", "camera_intrinsic"),
    Case("intrinsics as text", camera(camera_intrinsic="wide"), "refused", "camera_intrinsic"),
    Case("rotation of length 0", camera(rotation=[0, 0, 0, 0]), "refused", "rotation"),
    Case("rotation of three numbers", camera(rotation=[1, 0, 0]), "refused", "rotation"),
    Case("rotation of length 2", camera(rotation=[2, 0, 0, 0]), "refused", "rotation"),
    Case("rotation in the order x y z w", of_camera(swapped), "warned", "CAM_BACK lies on its side",
         store_changes=True),
    Case("rotations of cars in the order x y z w", rows("ego_pose", to_the_left), "refused", "on its wheels", "ego_"),
    Case("camera that looks up", camera(rotation=[1, 0, 0, 0]), "warned", "CAM_BACK sees no point in 2 of 2",
         store_changes=True),
    Case("cameras that all look up", rows("calibrated_sensor", looking_up), "refused", "sees a point"),
    Case("translation of two numbers", camera(translation=[0, 0]), "refused", "translation"),
    Case("translation infinite", d.text(table("ego_pose"), infinite),
         "refused", "ego_pose"),
    Case("two sensors of one channel", column("sensor", {"channel": "CAM_BACK_"}, channel="CAM_BACK"),
         "refused", "two key frames of CAM_BACK"),
    Case("LiDAR of another name", column("sensor", {"channel": "LIDAR_TOP"}, channel="LIDAR"), "refused", "LIDAR_TOP"),
    Case("category without index", rows("category", without_column("index")),
         "refused", "category"),
    Case("splits.json cut", d.cut(lambda r: r / VERSION / "splits.json", -3), "refused", "splits"),
    Case("splits.json of an unknown scene",
         d.replaced(lambda r: r / VERSION / "splits.json", b'{"train": ["mini-0009"], "val": []}'), "refused", "train"),
    Case("table that links to itself", d.looped(table("sample")), "refused", "sample"),
    Case("table linked from outside", d.outside(table("sample")), "taken"),
    Case("folder that links to the root", lambda r: (r / "samples" / "again").symlink_to(r), "taken"),
    Case("version missing", lambda r: (r / VERSION).rename(r / "v9"), "refused", VERSION),
    Case("stray ._ files",
         lambda r: [d.beside(f"._{name}")(r) for name in (sweep(r).name, picture(r).name, "sample.json")], "taken"),
    Case("stray .DS_Store", d.beside(".DS_Store"), "taken"),
)  # fmt: skip


@cases(*SWEEPS, *LABELS, *IMAGES, *TABLES)
def test_nuscenes(campaign, case, tmp_path):
    campaign.check(case, tmp_path)


@pytest.mark.parametrize("name", ["-dash", "a" * 100])
def test_names_of_folders(campaign, name, tmp_path):
    """Besides those with spaces, signs and other alphabets, that every case has."""
    folder = tmp_path / name
    folder.mkdir()
    campaign.check(Case(name, lambda root: None, "taken"), folder)
