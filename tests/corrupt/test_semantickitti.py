"""Corrupt data in SemanticKITTI's layout: calibration, poses, scans, labels, images, the folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovps.datasets.nuscenes import DATASET as nuscenes
from ovps.datasets.semantickitti import DATASET as semantickitti
from ovps.errors import DatasetError, FrameError
from tests.corrupt import damage as d
from tests.corrupt.campaign import Campaign, Case, cases
from tests.helpers.kitti_world import IMAGE_SIZE

COLUMNS = 4
SEQUENCE = Path("sequences/01")


@pytest.fixture(scope="module")
def campaign(kitti_world, tmp_path_factory) -> Campaign:
    """One sequence of two scans: of the other, and of the right camera, nothing is read."""
    folder = tmp_path_factory.mktemp("corrupt_semantickitti")
    root = folder / "clean"
    shutil.copytree(kitti_world / SEQUENCE, root / SEQUENCE)
    shutil.rmtree(root / SEQUENCE / "image_3")
    (root / "splits.json").write_text(json.dumps({"val": ["01"]}))
    return Campaign.of(root, folder / "zarr", dataset="semantickitti", subsets=("val",))


def at(*parts: str) -> d.Find:
    return lambda root: root.joinpath(SEQUENCE, *parts)


calib, poses, times = at("calib.txt"), at("poses.txt"), at("times.txt")
scans, pictures = at("velodyne"), at("image_2")
scan, label, picture = at("velodyne", "000000.bin"), at("labels", "000000.label"), at("image_2", "000000.png")


def splits(root: Path) -> Path:
    return root / "splits.json"


def lines_of(find: d.Find, change: Callable[[str], str | None]) -> d.Damage:
    return d.text(find, lambda text: "\n".join(filter(None, map(change, text.splitlines()))) + "\n")


def without(name: str) -> d.Damage:
    return lines_of(calib, lambda line: None if line.startswith(name) else line)


def numbers_of(name: str, values: str) -> d.Damage:
    return lines_of(calib, lambda line: f"{name}: {values}" if line.startswith(name) else line)


def rows(change: Callable[[np.ndarray], np.ndarray], dtype: str = "float32") -> d.Damage:
    return d.points(scan, COLUMNS, change, dtype)


def labels(change: Callable[[np.ndarray], np.ndarray]) -> d.Damage:
    return lambda root: change(np.fromfile(label(root), "<u4")).tofile(label(root))


def with_label(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(raw: np.ndarray) -> np.ndarray:
        raw[5] = value
        return raw

    return change


def five_columns(points: np.ndarray) -> np.ndarray:
    return np.c_[points[:, :3], (255 * points[:, 3]).round(), np.arange(len(points)) % 32]


def another(mode: str = "RGB", size: tuple[int, int] = IMAGE_SIZE, kind: str = "PNG", **options) -> d.Damage:
    return d.image(picture, lambda _: Image.new(mode, size), kind, **options)


def saved(array: np.ndarray, find: d.Find) -> d.Damage:
    def damage(root: Path) -> None:
        with find(root).open("wb") as file:
            np.save(file, array)

    return damage


TURNED = Image.Exif()
TURNED[0x0112] = 6
IDENTITY = "1 0 0 0 0 1 0 0 0 0 1 0"
BEHIND = "0 1 0 0 0 0 -1 -0.1 -1 0 0 -0.3"  # Tr of a camera that looks back, and sees what the LiDAR sees there
UP = "0 -1 0 0 1 0 0 0 0 0 1 0"
WEB_PAGE, LFS = b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"
GZIP = b"\x1f\x8b" + bytes(range(34))

CALIBRATION = (
    Case("calib without Tr", without("Tr"), "refused", "no line Tr", "calib.txt"),
    Case("calib of KITTI raw", d.replaced(calib, b"calib_time: 09-Jan-2012 14:00:15\nR: 1 0 0\n"),
         "refused", "a calibration of KITTI raw", "calib.txt"),
    Case("calib of the object benchmark", d.replaced(calib, b"P2: " + b"1 " * 12 + b"\nTr_velo_to_cam: " + b"1 " * 12),
         "refused", "object benchmark", "calib.txt"),
    Case("calib of 0 bytes", d.cut(calib, 0), "refused", "no line Tr", "calib.txt"),
    Case("calib that is no text", d.replaced(calib, b"\xff\xfe\x00\x01"), "refused", "not text", "calib.txt"),
    Case("calib that is a web page", d.replaced(calib, WEB_PAGE), "refused", "no line Tr", "calib.txt"),
    Case("calib missing", d.removed(calib), "refused", "cannot be read", "calib.txt"),
    Case("calib that is a folder", d.as_folder(calib), "refused", "cannot be read", "calib.txt"),
    Case("calib that links to itself", d.looped(calib), "refused", "cannot be read", "calib.txt"),
    Case("calib linked from outside", d.outside(calib), "taken"),
    Case("calib with a BOM", d.text(calib, lambda text: "\ufeff" + text), "taken"),
    Case("calib with CRLF", d.text(calib, lambda text: text.replace("\n", "\r\n")), "taken"),
    Case("calib in UTF-16", d.text(calib, str, "utf-16"), "refused", "not text", "calib.txt"),
    Case("calib without P2", without("P2"), "refused", "no P2", "calib.txt"),
    Case("calib with everything twice", d.text(calib, lambda text: 2 * text), "refused", "a second P0", "calib.txt"),
    Case("Tr of 3 numbers", numbers_of("Tr", "1 2 3"), "refused", "3 numbers, expected 12", "calib.txt"),
    Case("Tr of NaN", numbers_of("Tr", "nan " * 12), "refused", "12 finite", "calib.txt"),
    Case("Tr of zeros", numbers_of("Tr", "0 " * 12), "refused", "Tr is no rotation", "calib.txt"),
    Case("Tr that mirrors", numbers_of("Tr", "1 0 0 0 0 1 0 0 0 0 -1 0"), "refused", "mirror image", "calib.txt"),
    Case("Tr that scales", numbers_of("Tr", "2 0 0 0 0 2 0 0 0 0 2 0"), "refused", "scaled by 2", "calib.txt"),
    Case("Tr in words", numbers_of("Tr", IDENTITY.replace("1", "one")), "refused", "no number", "calib.txt"),
    Case("Tr far away", numbers_of("Tr", "0 -1 0 1e5 0 0 -1 0 1 0 0 0"), "refused", "m from the LiDAR", "000000.png"),
    Case("Tr of a camera that looks up", numbers_of("Tr", UP), "refused", "sees a point", "000000.bin"),
    Case("P2 of zeros", numbers_of("P2", "0 " * 12), "refused", "cannot be inverted", "calib.txt"),
    Case("P2 of 11 numbers", numbers_of("P2", "1e3 0 0 0 0 1e3 0 0 0 0 1"), "refused", "11 numbers", "calib.txt"),
    Case("P2 identity", numbers_of("P2", IDENTITY), "refused", "identity matrix", "000000.png"),
    Case("P2 from 0 to 1", numbers_of("P2", "0.58 0 0.49 0 0 1.92 0.46 0 0 0 1 0"),
         "refused", "normalised", "000000.png"),
    Case("P2 of another resolution", numbers_of("P2", "372 0 314 0 0 372 88 0 0 0 1 0"),
         "refused", "of another resolution", "000000.png"),
)  # fmt: skip

POSES = (  # the store keeps them, and nothing else depends on them
    Case("poses of 3 numbers", d.replaced(poses, b"1 2 3\n"), "refused", "3 numbers", "poses.txt"),
    Case("poses in letters", d.replaced(poses, b"x " * 12), "refused", "no number", "poses.txt"),
    Case("poses of zeros", d.replaced(poses, b"0 " * 12), "refused", "the pose in line 1", "poses.txt"),
    Case("poses that are no text", d.replaced(poses, b"\xff\xff"), "refused", "not text", "poses.txt"),
    Case("poses with a BOM", d.text(poses, lambda text: "\ufeff" + text), "taken"),
    Case("poses with CRLF", d.text(poses, lambda text: text.replace("\n", "\r\n")), "taken"),
    Case(
        "poses that end early",
        d.text(poses, lambda text: text.splitlines()[0] + "\n"),
        "warned",
        "poses.txt has 1 lines.*needs line 2",
        store_changes=True,
    ),
    Case("poses missing", d.removed(poses), "taken", store_changes=True),
    Case("times in words", d.replaced(times, b"soon\n"), "refused", "no number of seconds", "times.txt"),
    Case("times of infinity", d.replaced(times, b"inf\nnan\n"), "refused", "no number of seconds", "times.txt"),
    Case("times missing", d.removed(times), "taken"),
    Case("times that stand", d.replaced(times, b"0.5\n0.5\n"), "warned", "the first is line 2 of .*times.txt"),
    Case("times that end early", d.replaced(times, b"0\n"), "warned", "times.txt has 1 lines.*needs line 2"),
    Case("times beyond all clocks", d.replaced(times, b"0\n1e300\n"), "refused", "line 2 is 1e300 sec", "times.txt"),
    Case(
        "times in capitals",
        lambda r: times(r).rename(times(r).with_name("Times.txt")),
        "refused",
        "Times.txt is not read",
        "Times.txt",
    ),
)

SCANS = (
    Case("scan of 0 bytes", d.cut(scan, 0), "quarantined", "empty", "000000.bin"),
    Case("scan missing, an image without one", d.removed(scan), "warned", "1 scans are missing.*000000.bin",
         store_changes=True),
    Case("scan in capitals", lambda r: scan(r).rename(scans(r) / "000000.BIN"),
         "refused", "1 of 2 scans do not end in .bin.*000000.BIN", "000000.BIN"),
    Case("scan in a gzip called so", lambda r: scan(r).rename(scans(r) / "000000.bin.gz"),
         "refused", "scan 000000 is there as 000000.bin.gz alone", "000000.bin.gz"),
    Case("scan cut within a value", d.cut(scan, -1), "quarantined", "cut off", "000000.bin"),
    Case("scan cut at a row", d.cut(scan, -16), "quarantined", "labels for", "000000"),
    Case("scan cut at half", rows(lambda points: points[: len(points) // 2]), "quarantined", "labels for", "000000"),
    Case("scan of five columns, no multiple of four points",
         rows(lambda points: five_columns(points[:-1] if len(points) % 4 == 0 else points)),
         "quarantined", "5 columns", "000000.bin"),
    Case("scan of five columns, a multiple of four points",
         rows(lambda points: five_columns(points[: len(points) // 4 * 4])), "quarantined", "5 columns", "000000.bin"),
    Case("scan of three columns", rows(lambda points: points[:, :3]),
         "quarantined", "cut off|expected 0 to 1|labels for", "000000"),
    Case("scan in float64", rows(lambda points: points, "float64"), "quarantined", "", "000000"),
    Case("scan in float16", rows(lambda points: points, "float16"), "quarantined", "", "000000"),
    Case("scan in big endian", rows(lambda points: points, ">f4"), "quarantined", "", "000000"),
    Case("scan with a NaN", rows(d.with_value(np.nan, slice(7, 8))),
         "quarantined", "NaN or infinity, the first is point 7", "000000.bin"),
    Case("scan with an infinity", rows(d.with_value(np.inf, columns=slice(2, 3))),
         "quarantined", "NaN or infinity", "000000.bin"),
    Case("scan with an intensity below 0", rows(d.with_value(-0.5, columns=slice(3, 4))),
         "quarantined", "expected 0 to 1", "000000.bin"),
    Case("scan with intensities to 255", rows(lambda points: points * (1, 1, 1, 255)),
         "quarantined", "expected 0 to 1", "000000.bin"),
    Case("scan of zeros", rows(np.zeros_like), "quarantined", "ends in zeros", "000000.bin"),
    Case("scan in which 3 of 10 pulses had no return", rows(d.without_return),
         "quarantined", r"\(0, 0, 0\), pulses without a return", "000000.bin"),
    Case("scan in millimetres", rows(lambda points: points * np.float32([1000, 1000, 1000, 1])),
         "quarantined", "1000 m", "000000.bin"),
    Case("scan in global coordinates", rows(lambda points: points + np.float32([4e5, 5e6, 0, 0])),
         "quarantined", "1000 m", "000000.bin"),
    Case("scan that Git LFS points to", d.replaced(scan, LFS), "quarantined", "Git LFS", "000000.bin"),
    Case("scan that is a web page", d.replaced(scan, WEB_PAGE), "quarantined", "web page", "000000.bin"),
    Case("scan that is an .npy", saved(np.zeros((9, 4), np.float32), scan), "quarantined", ".npy", "000000.bin"),
    Case("scan in a gzip", d.replaced(scan, GZIP), "quarantined", "gzip", "000000.bin"),
    Case("scan in a zip", d.replaced(scan, b"PK\x03\x04" + bytes(32)), "quarantined", "zip archive", "000000.bin"),
    Case("scan that is a PCD", d.replaced(scan, b"# .PCD v0.7 - Point Cloud Data\n"),
         "quarantined", "PCD file", "000000.bin"),
    Case("scan that is a folder", d.as_folder(scan), "quarantined", "a folder lies", "000000.bin"),
    Case("scan that links to itself", d.looped(scan), "quarantined", "symbolic links", "000000.bin"),
    Case("scan linked from outside", d.outside(scan), "taken"),
    Case("scan of another name", lambda r: scan(r).rename(scans(r) / "first.bin"),
         "refused", "first.bin is not the number of a scan", "velodyne"),
    Case("two scans of one number", lambda r: shutil.copy(scan(r), scans(r) / "0000.bin"),
         "refused", "0000.bin and 000000.bin are one number", "velodyne"),
    Case("scans missing", lambda r: shutil.rmtree(scans(r)), "refused", "no folder velodyne", "01"),
    Case("no scan", lambda r: [path.unlink() for path in scans(r).iterdir()], "refused", "no scans", "velodyne"),
)  # fmt: skip

LABELS = (
    Case("labels of 0 bytes", d.cut(label, 0), "quarantined", "empty", "000000.label"),
    Case("labels cut within a value", d.cut(label, -1), "quarantined", "cut off", "000000.label"),
    Case("labels of fewer points", d.cut(label, -4), "quarantined", "labels for", "000000.label"),
    Case("labels of twice the points", labels(lambda raw: np.r_[raw, raw]), "quarantined", "labels for", "000000"),
    Case("labels in uint16", labels(lambda raw: raw.astype("<u2")), "quarantined", "labels for|cut off", "000000"),
    Case("labels in int64", labels(lambda raw: raw.astype("<i8")), "quarantined", "labels for", "000000.label"),
    Case("labels of an unknown class", labels(lambda raw: np.full_like(raw, 7)),
         "quarantined", "classes 7", "000000.label"),
    Case("labels of learned classes", labels(lambda raw: np.arange(len(raw), dtype="<u4") % 20),
         "quarantined", "learning_map_inv", "000000.label"),
    Case("labels with class and instance swapped", labels(lambda raw: (raw & 0xFFFF) << 16 | raw >> 16),
         "quarantined", "which SemanticKITTI does not have", "000000.label"),
    Case("labels in big endian", labels(lambda raw: raw.astype(">u4")), "quarantined", "", "000000.label"),
    Case("labels with the largest instance", labels(with_label(65_535 << 16 | 10)), "taken", store_changes=True),
    Case("labels in capitals", lambda r: label(r).rename(label(r).with_suffix(".LABEL")),
         "quarantined", "does not exist, but 000000.LABEL lies there", "000000.label"),
    Case("labels of a file missing", d.removed(label), "quarantined", "does not exist", "000000.label"),
    Case("labels that are a web page", d.replaced(label, WEB_PAGE), "quarantined", "web page", "000000.label"),
    Case("labels in a gzip", d.replaced(label, GZIP), "quarantined", "gzip", "000000.label"),
    Case("labels that macOS left", d.replaced(label, b"\x00\x05\x16\x07" + bytes(32)),
         "quarantined", "file of macOS", "000000.label"),
    Case("labels that are an .npy", saved(np.zeros(9, np.uint32), label), "quarantined", ".npy", "000000.label"),
    Case("labels that are a folder", d.as_folder(label), "quarantined", "a folder lies", "000000.label"),
    Case("labels that link to themselves", d.looped(label), "quarantined", "symbolic links", "000000.label"),
    Case("labels linked from outside", d.outside(label), "taken"),
)  # fmt: skip

IMAGES = (
    Case("image in capitals", lambda r: picture(r).rename(picture(r).with_suffix(".PNG")),
         "quarantined", "does not exist, but 000000.PNG lies there.*Rename it: mv ", "000000.png"),
    Case("image missing", d.removed(picture), "quarantined", "does not exist", "000000.png"),
    Case("image of 0 bytes", d.cut(picture, 0), "quarantined", "empty", "000000.png"),
    Case("image cut", d.cut(picture, -500), "quarantined", "damaged", "000000.png"),
    Case("image cut to its head", d.cut(picture, 60), "quarantined", "damaged", "000000.png"),
    Case("image that is a web page", d.replaced(picture, WEB_PAGE), "quarantined", "web page", "000000.png"),
    Case("image that is text", d.replaced(picture, b"no"), "quarantined", "no picture", "000000.png"),
    Case("first image of another size", another(size=(640, 192)), "refused", "of another resolution", "000000.png"),
    Case("first image turned on its side", another(size=IMAGE_SIZE[::-1]), "refused", "outside the image", "000000"),
    Case("first image of one pixel", another(size=(1, 1)), "refused", "outside the image", "000000.png"),
    Case("image with 16 bits", another("I;16"), "quarantined", "more than 8 bits", "000000.png"),
    Case("image in floats", another("F", kind="TIFF"), "quarantined", "more than 8 bits", "000000.png"),
    Case("image that is see-through", another("RGBA"), "quarantined", "transparent", "000000.png"),
    Case("image in CMYK", another("CMYK", kind="TIFF"), "quarantined", "colours CMYK", "000000.png"),
    Case("image with a palette", d.image(picture, lambda i: i.quantize(16), "PNG"), "taken", store_changes=True),
    Case("image turned by EXIF", another(exif=TURNED), "quarantined", "orientation 6", "000000.png"),
    Case("image of two pictures",
         another(kind="TIFF", save_all=True, append_images=[Image.new("RGB", IMAGE_SIZE, "blue")]),
         "quarantined", "holds 2 pictures", "000000.png"),
    Case("image that unpacks to gigabytes", d.bomb(picture), "quarantined", "too large|pixels", "000000.png"),
    Case("image that is a folder", d.as_folder(picture), "quarantined", "a folder lies", "000000.png"),
    Case("image that links to itself", d.looped(picture), "quarantined", "symbolic links", "000000.png"),
    Case("image linked from outside", d.outside(picture), "taken"),
    Case("no image that is one", lambda r: [path.write_bytes(b"no") for path in pictures(r).iterdir()],
         "refused", "no file here is an image", "image_2"),
    Case("images missing", lambda r: shutil.rmtree(pictures(r)), "refused", "", ""),
)  # fmt: skip

FOLDER = (
    Case("splits.json cut", d.replaced(splits, b"["), "refused", "cannot be read", "splits.json"),
    Case("splits.json of numbers", d.replaced(splits, b"[1]"), "refused", "not lists of sequences", "splits.json"),
    Case("splits.json that leaves the root", d.replaced(splits, b'{"val": ["../elsewhere"]}'),
         "refused", "not lists of sequences", "splits.json"),
    Case("splits.json without val", d.replaced(splits, b'{"train": ["00"]}'), "refused", "no split 'val'", "splits"),
    Case("splits.json of sequences that are not there", d.replaced(splits, b'{"val": ["77"]}'),
         "refused", "none of the sequences", ""),
    Case("splits.json of a hundred thousand brackets", d.replaced(splits, b"[" * 100_000), "refused", "", "splits"),
    Case("splits.json with a BOM", d.text(splits, lambda text: "\ufeff" + text), "taken"),
    Case("sequences missing", lambda r: (r / "sequences").rename(r / "scenes"), "refused", "no folder sequences", ""),
    Case("sequence that links to itself",
         lambda r: (shutil.rmtree(r / SEQUENCE), (r / SEQUENCE).symlink_to(SEQUENCE.name)), "refused", "", ""),
    Case("folder that links to the root", lambda r: (scans(r) / "again").symlink_to(r), "taken"),
    Case("stray ._ files", lambda r: [d.beside(f"._000000{end}")(r) for end in (".bin", ".label", ".png")], "taken"),
    Case("stray .DS_Store", d.beside(".DS_Store"), "taken"),
)  # fmt: skip


@cases(*CALIBRATION, *POSES, *SCANS, *LABELS, *IMAGES, *FOLDER)
def test_semantickitti(campaign, case, tmp_path):
    campaign.check(case, tmp_path)


def test_another_version(kitti_world):
    with pytest.raises(DatasetError, match=r"no version 'v1.0-mini'.*There is but v1.0"):
        semantickitti.frames(kitti_world, "v1.0-mini", ("val",))


def test_where_the_download_has_a_folder_more_the_remedy_names_it(kitti_world, tmp_path):
    named = shutil.copytree(kitti_world, tmp_path / "odometry" / "dataset")
    for wrong in (tmp_path / "odometry", named / "sequences"):
        with pytest.raises(DatasetError) as caught:
            semantickitti.frames(wrong, "v1.0", ("val",))
        assert Path(caught.value.remedy.split("'")[1]) == named
    assert semantickitti.frames(named, "v1.0", ("val",))


def test_a_sweep_of_nuscenes_is_told(kitti_world, mini_nuscenes, tmp_path):
    root = shutil.copytree(kitti_world, tmp_path / "kitti")
    sweep = nuscenes.frames(mini_nuscenes, "v1.0-trainval", ("train",))[0]
    shutil.copy(sweep.points_path, scan(root))
    (frame, *_) = semantickitti.frames(root, "v1.0", ("val",))
    with pytest.raises(FrameError, match="5 columns of float32, a nuScenes sweep"):
        semantickitti.points(frame)
