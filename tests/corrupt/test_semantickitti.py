"""Every fault of a folder in SemanticKITTI's layout is a typed error that names the file and ends with what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovps.datasets.semantickitti import DATASET as semantickitti
from ovps.errors import DatasetError, FrameError
from ovps.geometry.calibration import check_calibration

SEQUENCE = Path("sequences/01")
CALIB, POSES, TIMES = SEQUENCE / "calib.txt", SEQUENCE / "poses.txt", SEQUENCE / "times.txt"
SCAN, LABEL, IMAGE = (SEQUENCE / name for name in ("velodyne/000000.bin", "labels/000000.label", "image_2/000000.png"))


@pytest.fixture
def root(kitti_world, tmp_path) -> Path:
    return Path(shutil.copytree(kitti_world, tmp_path / "kitti"))


def read_all(root, version="v1.0", subsets=("val",)):
    """All that precompute reads of a data set, and looks at before it computes."""
    for frame in semantickitti.frames(root, version, subsets):
        check_calibration(frame)
        semantickitti.points(frame)
        semantickitti.labels(frame)
        for camera in frame.cameras:
            semantickitti.image(camera)


def lines_of(path, change):
    lines = path.read_text().splitlines()
    path.write_text("\n".join(filter(None, (change(line) for line in lines))) + "\n")


def without(name):
    return lambda path: lines_of(path, lambda line: None if line.startswith(name) else line)


def numbers_of(name, values):
    return lambda path: lines_of(path, lambda line: f"{name}: {values}" if line.startswith(name) else line)


def rows(change):
    def spoil(path):
        change(np.fromfile(path, "<f4").reshape(-1, 4).copy()).astype("<f4").tofile(path)

    return spoil


def cut(count):
    return lambda path: path.write_bytes(path.read_bytes()[:-count])


def content(raw):
    return lambda path: path.write_bytes(raw)


def labels(change):
    return lambda path: change(np.fromfile(path, "<u4")).tofile(path)


def one(column, value):
    def change(points):
        points[7, column] = value
        return points

    return rows(change)


def five_columns(points):
    return np.c_[points[:, :3], (255 * points[:, 3]).round(), np.arange(len(points)) % 32]


def picture(mode="RGB", size=(320, 96), **options):
    return lambda path: Image.new(mode, size).save(path, "tiff" if mode in ("CMYK", "F") else "png", **options)


def two_pictures(path):
    one, other = (Image.new("RGB", (320, 96), colour) for colour in ("red", "blue"))
    one.save(path, "tiff", save_all=True, append_images=[other])


def folder_instead(path):
    path.unlink()
    path.mkdir()


TURNED = Image.Exif()
TURNED[0x0112] = 6
IDENTITY = "1 0 0 0 0 1 0 0 0 0 1 0"
WEB_PAGE, LFS = b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"

CASES = [
    # calib.txt
    (CALIB, without("Tr"), DatasetError, "no line Tr"),
    (CALIB, content(b"calib_time: 09-Jan-2012 14:00:15\nR: 1 0 0\n"), DatasetError, "a calibration of KITTI raw"),
    (CALIB, content(b"P2: " + b"1 " * 12 + b"\nTr_velo_to_cam: " + b"1 " * 12), DatasetError, "object benchmark"),
    (CALIB, content(b""), DatasetError, "no line Tr"),
    (CALIB, content(b"\xff\xfe\x00\x01"), DatasetError, "not text"),
    (CALIB, content(WEB_PAGE), DatasetError, "no line Tr"),
    (CALIB, Path.unlink, DatasetError, "cannot be read"),
    (CALIB, folder_instead, DatasetError, "cannot be read"),
    (CALIB, without("P2"), DatasetError, "no P2"),
    (CALIB, numbers_of("Tr", "1 2 3"), DatasetError, "3 numbers, expected 12"),
    (CALIB, numbers_of("Tr", "nan " * 12), DatasetError, "12 finite"),
    (CALIB, numbers_of("Tr", "0 " * 12), DatasetError, "Tr is no rotation"),
    (CALIB, numbers_of("Tr", "1 0 0 0 0 1 0 0 0 0 -1 0"), DatasetError, "mirror image"),
    (CALIB, numbers_of("Tr", "2 0 0 0 0 2 0 0 0 0 2 0"), DatasetError, "scaled by 2"),
    (CALIB, numbers_of("Tr", IDENTITY.replace("1", "one")), DatasetError, "no number"),
    (CALIB, numbers_of("P2", "0 " * 12), DatasetError, "cannot be inverted"),
    (CALIB, numbers_of("P2", "1e3 0 0 0 0 1e3 0 0 0 0 1"), DatasetError, "11 numbers"),
    (CALIB, lambda path: path.write_text(2 * path.read_text()), DatasetError, "a second P0"),
    (CALIB, numbers_of("P2", IDENTITY), FrameError, "identity matrix"),
    (CALIB, numbers_of("P2", "0.58 0 0.49 0 0 1.92 0.46 0 0 0 1 0"), FrameError, "normalised"),
    (CALIB, numbers_of("P2", "372 0 314 0 0 372 88 0 0 0 1 0"), FrameError, "of another resolution"),
    (CALIB, numbers_of("Tr", "0 -1 0 1e5 0 0 -1 0 1 0 0 0"), FrameError, "m from the LiDAR"),
    # poses.txt, times.txt
    (POSES, content(b"1 2 3\n"), DatasetError, "3 numbers"),
    (POSES, content(b"x " * 12), DatasetError, "no number"),
    (POSES, content(b"0 " * 12), DatasetError, "the pose in line 1"),
    (POSES, content(b"\xff\xff"), DatasetError, "not text"),
    (TIMES, content(b"soon\n"), DatasetError, "no number of seconds"),
    (TIMES, content(b"inf\nnan\n"), DatasetError, "no number of seconds"),
    # scans
    (SCAN, content(b""), FrameError, "empty"),
    (SCAN, cut(1), FrameError, "cut off"),
    (SCAN, cut(16), FrameError, "labels for"),
    (SCAN, rows(lambda points: points[: len(points) // 2]), FrameError, "labels for"),
    (SCAN, rows(lambda points: five_columns(points[:-1] if len(points) % 4 == 0 else points)), FrameError, "5 columns"),
    (SCAN, rows(lambda points: five_columns(points[: len(points) // 4 * 4])), FrameError, "5 columns"),
    (SCAN, rows(lambda points: points[:, :3]), FrameError, "cut off|expected 0 to 1|labels for"),
    (SCAN, one(0, np.nan), FrameError, "NaN or infinity, the first is point 7"),
    (SCAN, one(2, np.inf), FrameError, "NaN or infinity"),
    (SCAN, one(3, -0.5), FrameError, "expected 0 to 1"),
    (SCAN, rows(lambda points: points * (1, 1, 1, 255)), FrameError, "expected 0 to 1"),
    (SCAN, rows(lambda points: 0 * points), FrameError, "ends in zeros"),
    (SCAN, content(LFS), FrameError, "Git LFS"),
    (SCAN, content(WEB_PAGE), FrameError, "web page"),
    (SCAN, lambda path: np.save(path.open("wb"), np.zeros((9, 4), np.float32)), FrameError, ".npy"),
    (SCAN, content(b"\x1f\x8b" + bytes(range(32))), FrameError, "gzip"),
    (SCAN, content(b"PK\x03\x04" + bytes(32)), FrameError, "zip archive"),
    (SCAN, content(b"# .PCD v0.7 - Point Cloud Data\n"), FrameError, "PCD file"),
    (SCAN, folder_instead, FrameError, "a folder lies"),
    (SCAN, lambda path: path.rename(path.with_name("first.bin")), DatasetError, "not the number of a scan"),
    (SCAN, lambda path: shutil.copy(path, path.with_name("0000.bin")), DatasetError, "are one number"),
    (SCAN.parent, shutil.rmtree, DatasetError, "no folder velodyne"),
    (SCAN.parent, lambda path: [scan.unlink() for scan in path.iterdir()], DatasetError, "no scans"),
    # labels
    (LABEL, content(b""), FrameError, "empty"),
    (LABEL, cut(1), FrameError, "cut off"),
    (LABEL, cut(4), FrameError, "labels for"),
    (LABEL, labels(lambda raw: raw.astype("<u2")), FrameError, "labels for|cut off"),
    (LABEL, labels(lambda raw: np.r_[raw, raw]), FrameError, "labels for"),
    (LABEL, labels(lambda raw: np.full_like(raw, 7)), FrameError, "classes 7"),
    (LABEL, labels(lambda raw: np.arange(len(raw), dtype="<u4") % 20), FrameError, "learning_map_inv"),
    (LABEL, labels(lambda raw: (raw & 0xFFFF) << 16 | raw >> 16), FrameError, "which SemanticKITTI does not have"),
    (LABEL, Path.unlink, FrameError, "does not exist"),
    (LABEL, content(WEB_PAGE), FrameError, "web page"),
    (LABEL, content(b"\x1f\x8b" + bytes(range(34))), FrameError, "gzip"),
    (LABEL, content(b"\x00\x05\x16\x07" + bytes(32)), FrameError, "file of macOS"),
    (LABEL, lambda path: np.save(path.open("wb"), np.zeros(9, np.uint32)), FrameError, ".npy"),
    (LABEL, folder_instead, FrameError, "a folder lies"),
    # images
    (IMAGE, Path.unlink, FrameError, "pixels|does not exist"),
    (IMAGE, content(b""), FrameError, "empty"),
    (IMAGE, content(WEB_PAGE), FrameError, "web page"),
    (IMAGE, cut(500), FrameError, "damaged|cut"),
    (IMAGE.with_name("000001.png"), picture(size=(640, 192)), FrameError, "640x192 pixels"),
    (IMAGE, picture("I;16"), FrameError, "more than 8 bits"),
    (IMAGE, picture("RGBA"), FrameError, "transparent"),
    (
        IMAGE.parent,
        lambda path: [p.write_bytes(b"no") for p in path.iterdir()],
        DatasetError,
        "no file here is an image",
    ),
    (IMAGE, picture("CMYK"), FrameError, "colours CMYK"),
    (IMAGE, picture(exif=TURNED), FrameError, "orientation 6"),
    (IMAGE, picture("F"), FrameError, "more than 8 bits"),
    (IMAGE, two_pictures, FrameError, "holds 2 pictures"),
    (IMAGE, folder_instead, FrameError, "a folder lies"),
    # the folder
    (Path("splits.json"), content(b"["), DatasetError, "cannot be read"),
    (Path("splits.json"), content(b"[1]"), DatasetError, "not lists of sequences"),
    (Path("splits.json"), content(b'{"val": ["../elsewhere"]}'), DatasetError, "not lists of sequences"),
    (Path("splits.json"), content(b'{"train": ["00"]}'), DatasetError, "no split 'val'"),
    (Path("splits.json"), content(b'{"val": ["77"]}'), DatasetError, "none of the sequences"),
    (Path("sequences"), lambda path: path.rename(path.with_name("scenes")), DatasetError, "no folder sequences"),
]


@pytest.mark.parametrize(("path", "spoil", "kind", "told"), CASES)
def test_a_fault_is_told(root, path, spoil, kind, told):
    spoil(root / path)
    with pytest.raises(DatasetError, match=told) as caught:
        read_all(root)
    error = caught.value
    assert type(error) is kind
    assert error.path
    assert error.remedy


def test_a_spoilt_file_is_the_one_that_is_named(root):
    for path, spoil in ((SCAN, one(0, np.nan)), (LABEL, cut(1)), (IMAGE, content(b""))):
        kept = (root / path).read_bytes()
        spoil(root / path)
        with pytest.raises(FrameError) as caught:
            read_all(root)
        assert caught.value.path == str(root / path)
        (root / path).write_bytes(kept)
    read_all(root)


def test_another_version(root):
    with pytest.raises(DatasetError, match=r"no version 'v1.0-mini'.*There is but v1.0"):
        read_all(root, version="v1.0-mini")


def test_where_the_download_has_a_folder_more_the_remedy_names_it(root, tmp_path):
    shutil.move(root, tmp_path / "odometry" / "dataset")
    with pytest.raises(DatasetError) as caught:
        read_all(tmp_path / "odometry")
    named = caught.value.remedy.split("'")[1]
    read_all(Path(named))
    with pytest.raises(DatasetError) as caught:
        read_all(Path(named) / "sequences")
    read_all(Path(caught.value.remedy.split("'")[1]))


def test_a_data_set_in_columns_of_another_is_told_both_ways(root, mini_nuscenes):
    from ovps.datasets.nuscenes import DATASET as nuscenes

    sweep = nuscenes.frames(mini_nuscenes, "v1.0-trainval", ("train",))[0]
    shutil.copy(sweep.points_path, root / SCAN)
    with pytest.raises(FrameError, match="5 columns of float32, a nuScenes sweep"):
        read_all(root)
