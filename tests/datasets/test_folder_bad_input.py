"""Bad recordings: each ends in a typed error that names the file at fault and a remedy. `CASES` is the campaign."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ovps import datasets
from ovps.errors import OvpsError
from ovps.geometry.calibration import check_calibration
from pipelines.precompute.compute_frame import cloud_fault
from tests.datasets.test_folder import TAXONOMY, write_pcd, write_ply
from tests.helpers.recording import (
    HEIGHT,
    WIDTH,
    calibration,
    image_of,
    rows_of,
    write_calibration,
    write_readings,
    write_recording,
)

Break = Callable[[Path], None]


def use(root: Path) -> list[str]:
    """Everything that precompute asks of a data set; faults of clouds that are valid files."""
    data = datasets.at("folder", root)
    faults = []
    for frame in data.frames(root, "1", ("val",)):
        assert data.taxonomy.classes
        check_calibration(frame)
        fault = cloud_fault(data.points(frame))
        faults += [fault] if fault else []
        data.labels(frame)
        for camera in frame.cameras:
            data.image(camera)
    return faults


def points(name: str, content: bytes | Callable[[Path], None]) -> Break:
    """Put another point file in the place of the first."""

    def do(root: Path) -> None:
        (root / "points" / "000.bin").unlink()
        path = root / "points" / name
        path.write_bytes(content) if isinstance(content, bytes) else content(path)

    return do


def image(name: str, write: Callable[[Path], object] | bytes) -> Break:
    def do(root: Path) -> None:
        folder = root / "images" / "front"
        (folder / "000.png").unlink()
        (folder / name).write_bytes(write) if isinstance(write, bytes) else write(folder / name)

    return do


def changed(**parts) -> Break:
    return lambda root: write_calibration(root, calibration() | parts)


def camera(**parts) -> Break:
    return changed(cameras={"front": calibration()["cameras"]["front"] | parts})


def of_points(**parts) -> Break:
    return changed(points=calibration()["points"] | parts)


def transform(**parts) -> Break:
    return changed(transforms=[{"from": "lidar", "to": "front"} | parts])


def text(name: str, content: str | bytes) -> Break:
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda root: (root / name).write_bytes(raw)


def table(*lines: str, head: str = "sweep,sensor,file,time_us") -> Break:
    return lambda root: write_readings(root, [head, *lines])


def labels(name: str, content: object, taxonomy: object = TAXONOMY) -> Break:
    def do(root: Path) -> None:
        (root / "labels").mkdir()
        path = root / "labels" / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".npz":
            np.savez(path, **content)
        else:
            np.save(path, content, allow_pickle=True)
        if taxonomy is not None:
            (root / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy))

    return do


def rows(change: Callable[[np.ndarray], object]) -> bytes:
    made = rows_of(0)
    change(made)
    return made.tobytes()


def saved(save: Callable, *args, **kwargs) -> bytes:
    out = io.BytesIO()
    save(out, *args, **kwargs)
    return out.getvalue()


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def cut(write: Callable[[Path, np.ndarray], None], share: float) -> Callable[[Path], None]:
    def do(path: Path) -> None:
        write(path, rows_of(0))
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return do


def pcd(encoding: str) -> Callable[[Path, np.ndarray], None]:
    return lambda path, made: write_pcd(path, made, encoding)


def lying_pcd(path: Path) -> None:
    """A compressed body that says it unpacks to four gigabytes."""
    write_pcd(path, rows_of(0), "binary_compressed")
    content = path.read_bytes()
    body = content.index(b"DATA binary_compressed\n") + len(b"DATA binary_compressed\n")
    path.write_bytes(content[: body + 4] + struct.pack("<I", 2**32 - 1) + content[body + 8 :])


def huge_pcd(path: Path) -> None:
    write_pcd(path, rows_of(0), "binary_compressed")
    number = str(len(rows_of(0))).encode()
    path.write_bytes(
        path.read_bytes()
        .replace(b"WIDTH " + number, b"WIDTH 400000000")
        .replace(b"POINTS " + number, b"POINTS 400000000")
    )


def bomb(path: Path) -> None:
    """An archive of an array of two gigabytes of zeros."""
    head = saved(np.save, np.zeros((0, 4), np.float32)).replace(b"(0, 4), ", b"(134217728, 4), ")
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("data.npy", "w", force_zip64=True) as file,
    ):
        file.write(head)
        for _ in range(1100):
            file.write(bytes(2**20))


def picture_bomb(path: Path) -> None:
    """A PNG of 50,000 x 50,000 pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image_of(0)).save(path, exif=exif)


def loop(name: str) -> Break:
    def do(root: Path) -> None:
        (root / name).unlink()
        os.symlink(root / name, root / name)

    return do


PLAIN = Image.fromarray(image_of(0))
LIDAR = "000,lidar,points/000.bin,0"
FRONT = "000,front,images/front/000.png,0"
EYE = np.eye(4).tolist()
POSED = "sweep,sensor,file,time_us,x,y,z,qw,qx,qy,qz"

# what is broken: how, the file that the error names, and a word of the message or the remedy
CASES: dict[str, tuple[Break, str, str]] = {
    # points
    "empty .bin": (points("000.bin", b""), "000.bin", "empty"),
    ".bin cut off within a row": (points("000.bin", rows_of(0).tobytes()[:-5]), "000.bin", "columns"),
    ".bin of three columns": (points("000.bin", rows_of(0)[:-1, :3].tobytes()), "000.bin", "columns"),
    ".bin of float64": (points("000.bin", rows_of(0).astype(float).tobytes()), "000.bin", "points"),
    ".bin with NaN": (points("000.bin", rows(lambda r: r.__setitem__((3, 0), np.nan))), "000.bin", "invalid: drop"),
    ".bin with infinity": (
        points("000.bin", rows(lambda r: r.__setitem__((3, 2), np.inf))),
        "000.bin",
        "invalid: drop",
    ),
    ".bin with intensity NaN": (points("000.bin", rows(lambda r: r.__setitem__((3, 3), np.nan))), "000.bin", "NaN"),
    "intensities beyond": (points("000.bin", rows(lambda r: r.__setitem__((3, 3), 4000))), "000.bin", "intensity_max"),
    "negative intensities": (points("000.bin", rows(lambda r: r.__setitem__((3, 3), -3))), "000.bin", "intensit"),
    ".bin that is a pcd": (points("000.bin", b"# .PCD v0.7\n" + bytes(4)), "000.bin", "PCD"),
    ".bin that is an npy": (points("000.bin", saved(np.save, rows_of(0))), "000.bin", "npy"),
    "a pointer of Git LFS": (points("000.bin", b"version https://git-lfs.github.com/spec/v1\n"), "000.bin", "git lfs"),
    "a web page": (points("000.bin", b"<!DOCTYPE html>"), "000.bin", "web page"),
    "a folder as point file": (points("000.bin", lambda p: p.mkdir()), "000.bin", "folder"),
    "a point file that is a loop": (loop("points/000.bin"), "000.bin", "cannot be read"),
    "pickled .npy": (points("000.npy", saved(np.save, np.array([{}], object))), "000.npy", "read"),
    "a pickle called .npy": (points("000.npy", pickle.dumps([1])), "000.npy", "read"),
    ".npy cut off": (points("000.npy", saved(np.save, rows_of(0))[:-40]), "000.npy", "read"),
    ".npy of one dimension": (points("000.npy", saved(np.save, rows_of(0).ravel())), "000.npy", "shape"),
    ".npy of five columns": (points("000.npy", saved(np.save, np.zeros((9, 5)))), "000.npy", "shape (9, 5)"),
    ".npy of texts": (points("000.npy", saved(np.save, np.full((9, 4), "a"))), "000.npy", "kinds"),
    ".npy of complex numbers": (points("000.npy", saved(np.save, np.ones((9, 4), complex))), "000.npy", "kinds"),
    ".npy without points": (points("000.npy", saved(np.save, np.zeros((0, 4)))), "000.npy", "no valid point"),
    ".npy that says more than it has": (
        points("000.npy", saved(np.save, np.zeros((1, 4))).replace(b"(1, 4)", b"(9999999999, 4)")[:-8]),
        "000.npy",
        "read",
    ),
    ".npy called .npz": (points("000.npz", saved(np.save, rows_of(0))), "000.npz", "npy"),
    ".npz of two arrays": (points("000.npz", saved(np.savez, a=rows_of(0), b=rows_of(1))), "000.npz", "array"),
    ".npz cut off": (points("000.npz", saved(np.savez, a=rows_of(0))[:900]), "000.npz", "read"),
    ".npz with a flipped bit": (
        points("000.npz", flipped(saved(np.savez_compressed, a=rows_of(0)))),
        "000.npz",
        "read",
    ),
    ".npz with pickled points": (points("000.npz", saved(np.savez, a=np.array([{}], object))), "000.npz", "read"),
    ".npz that is a bomb": (points("000.npz", bomb), "000.npz", "unpacks to"),
    ".npz without arrays": (points("000.npz", saved(np.savez)), "000.npz", "array"),
    ".pcd of text cut off": (points("000.pcd", cut(pcd("ascii"), 0.7)), "000.pcd", "read"),
    ".pcd cut off": (points("000.pcd", cut(pcd("binary"), 0.7)), "000.pcd", "cut off"),
    ".pcd compressed and cut off": (points("000.pcd", cut(pcd("binary_compressed"), 0.7)), "000.pcd", "cut off"),
    ".pcd that lies about its size": (points("000.pcd", lying_pcd), "000.pcd", "header"),
    ".pcd of 400 million points": (points("000.pcd", huge_pcd), "000.pcd", "header"),
    ".pcd without a header": (points("000.pcd", b"1 2 3\n4 5 6\n"), "000.pcd", "read"),
    ".pcd of width 1 and 9 points": (
        points(
            "000.pcd",
            b"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 1\nHEIGHT 1\nPOINTS 9\n"
            b"DATA binary\n" + bytes(108),
        ),
        "000.pcd",
        "9 points",
    ),
    ".pcd without z": (
        points(
            "000.pcd",
            b"VERSION 0.7\nFIELDS x y\nSIZE 4 4\nTYPE F F\nCOUNT 1 1\nWIDTH 1\nHEIGHT 1\nPOINTS 1\nDATA ascii\n1 2\n",
        ),
        "000.pcd",
        "no z",
    ),
    ".ply of text cut off": (points("000.ply", cut(lambda p, r: write_ply(p, r, True), 0.7)), "000.ply", "read"),
    ".ply cut off": (points("000.ply", cut(lambda p, r: write_ply(p, r, False), 0.7)), "000.ply", "read"),
    ".ply without vertices": (points("000.ply", b"ply\nformat ascii 1.0\nend_header\n"), "000.ply", "read"),
    ".ply of a billion vertices": (
        points(
            "000.ply",
            b"ply\nformat binary_little_endian 1.0\nelement vertex 999999999\nproperty float x\n"
            b"property float y\nproperty float z\nend_header\n" + bytes(64),
        ),
        "000.ply",
        "read",
    ),
    "no .ply": (points("000.ply", b"\x00\x01"), "000.ply", "read"),
    "a suffix that is not read": (points("000.las", b"LASF"), "000.las", "Convert"),
    "two files of one name": (lambda r: np.save(r / "points" / "000.npy", rows_of(0)), "000.npy", "one name"),
    "no points at all": (lambda r: [p.unlink() for p in (r / "points").iterdir()], "points", "no point file"),
    "no folder of points": (lambda r: (r / "points").rename(r / "clouds"), "", "points"),
    "all points at the origin": (
        lambda r: (of_points(invalid="drop")(r), (r / "points" / "000.bin").write_bytes(bytes(16 * 300))),
        "000.bin",
        "no valid point",
    ),
    # images
    "no image": (lambda r: (r / "images" / "front" / "000.png").unlink(), "front", "no image of front"),
    "no images at all": (lambda r: (r / "images").rename(r / "pictures"), "images", "images/CAMERA"),
    "empty image": (image("000.png", b""), "000.png", "empty"),
    "an image cut off": (image("000.png", saved(PLAIN.save, "PNG")[:4000]), "000.png", "damaged"),
    "a JPEG cut off": (image("000.jpg", saved(PLAIN.save, "JPEG")[:900]), "000.jpg", "damaged"),
    "an image of another size": (image("000.png", lambda p: PLAIN.resize((48, 32)).save(p)), "000.png", "48x32"),
    "an image with 16 bits": (
        image("000.png", lambda p: Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(p)),
        "000.png",
        "more than 8 bits",
    ),
    "an image of float": (
        image("000.tiff", lambda p: Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)).save(p)),
        "000.tiff",
        "more than 8 bits",
    ),
    "CMYK": (image("000.jpg", lambda p: PLAIN.convert("CMYK").save(p)), "000.jpg", "CMYK"),
    "an image to be turned": (image("000.jpg", turned), "000.jpg", "EXIF"),
    "a transparent image": (
        image("000.png", lambda p: Image.new("RGBA", (WIDTH, HEIGHT), (9, 9, 9, 99)).save(p)),
        "000.png",
        "transparent",
    ),
    "an animation": (
        image("000.gif", lambda p: PLAIN.save(p, save_all=True, append_images=[PLAIN.rotate(90)])),
        "000.gif",
        "pictures",
    ),
    "an image that is a bomb": (image("000.png", picture_bomb), "000.png", "50000"),
    "a text called image": (image("000.png", b"hello"), "000.png", "damaged"),
    "an image that is a loop": (loop("images/front/000.png"), "000.png", "cannot be read"),
    "a folder of images that is not calibrated": (
        lambda r: (r / "images" / "front").rename(r / "images" / "rear"),
        "calibration.yaml",
        "rear",
    ),
    "two images of one name": (lambda r: PLAIN.save(r / "images" / "front" / "000.jpg"), "000.png", "one name"),
    # calibration
    "no calibration": (lambda r: (r / "calibration.yaml").unlink(), "calibration.yaml", "no calibration file"),
    "two calibrations": (text("calibration.json", "{}"), "", "side by side"),
    "no YAML": (text("calibration.yaml", "a: [1"), "calibration.yaml", "not yaml"),
    "a YAML with Python in it": (
        text("calibration.yaml", "!!python/object/apply:os.system [ls]"),
        "calibration.yaml",
        "not yaml",
    ),
    "an empty calibration": (text("calibration.yaml", ""), "calibration.yaml", "valid"),
    "latin-1": (text("calibration.yaml", "caméra: 1".encode("latin-1")), "calibration.yaml", "not yaml"),
    "a list": (text("calibration.yaml", "- 1"), "calibration.yaml", "valid"),
    "a calibration of ten megabytes": (text("calibration.yaml", "#" * 10**7), "calibration.yaml", "bytes"),
    "an unknown key": (changed(lens="wide"), "calibration.yaml", "lens"),
    "no camera": (changed(cameras={}), "calibration.yaml", "cameras"),
    "a camera outside": (
        changed(cameras={"../front": calibration()["cameras"]["front"]}),
        "calibration.yaml",
        "folder",
    ),
    "identity intrinsics": (camera(fx=1, fy=1, cx=0, cy=0), "calibration.yaml", "identity"),
    "normalised intrinsics": (camera(fx=0.6, fy=0.9, cx=0.5, cy=0.5), "calibration.yaml", "normalised"),
    "a focal length of 0": (camera(fx=0), "calibration.yaml", "focal length of 0"),
    "a focal length of NaN": (camera(fx=float("nan")), "calibration.yaml", "fx"),
    "another resolution": (camera(fx=600.0, fy=600.0, cx=480.0, cy=320.0), "calibration.yaml", "another resolution"),
    "an image size of 0": (camera(width=0), "calibration.yaml", "width"),
    "distortion without a model": (camera(distortion=[0.1, 0, 0, 0]), "calibration.yaml", "pinhole"),
    "three coefficients": (camera(model="opencv", distortion=[0.1, 0, 0]), "calibration.yaml", "coefficients"),
    "an unknown model": (camera(model="omni"), "calibration.yaml", "model"),
    "no transforms": (changed(transforms=[]), "calibration.yaml", "no transforms lead"),
    "a transform of another camera": (
        changed(transforms=[{"from": "lidar", "to": "rear", "matrix": EYE}]),
        "calibration.yaml",
        "from lidar to front",
    ),
    "two ways": (changed(transforms=2 * calibration()["transforms"]), "calibration.yaml", "second way"),
    "a matrix and a translation": (transform(matrix=EYE, translation=[0, 0, 0]), "calibration.yaml", "alone"),
    "half a transform": (transform(translation=[0, 0, 0]), "calibration.yaml", "rotation_wxyz"),
    "a mirror": (transform(matrix=np.diag([1.0, -1, 1, 1]).tolist()), "calibration.yaml", "mirror"),
    "a scaled rotation": (transform(matrix=np.diag([2.0, 2, 2, 1]).tolist()), "calibration.yaml", "scaled"),
    "no rotation": (transform(matrix=np.diag([1.0, 3, 1, 1]).tolist()), "calibration.yaml", "no rotation"),
    "a quaternion of length 2": (
        transform(translation=[0, 0, 0], rotation_wxyz=[2, 0, 0, 0]),
        "calibration.yaml",
        "length",
    ),
    "a quaternion of length 0": (
        transform(translation=[0, 0, 0], rotation_wxyz=[0, 0, 0, 0]),
        "calibration.yaml",
        "length",
    ),
    "a transposed matrix": (
        transform(matrix=np.array(calibration()["transforms"][0]["matrix"]).T.tolist()),
        "calibration.yaml",
        "last row",
    ),
    "a camera 300 m away": (
        transform(translation=[0, 300, 0], rotation_wxyz=[1, 0, 0, 0]),
        "000.png",
        "300 m from the LiDAR",
    ),
    "a translation of two numbers": (
        transform(translation=[0, 1], rotation_wxyz=[1, 0, 0, 0]),
        "calibration.yaml",
        "translation",
    ),
    "columns without z": (of_points(columns=["x", "y", "intensity"]), "calibration.yaml", "columns"),
    "columns twice": (of_points(columns=["x", "x", "y", "z"]), "calibration.yaml", "columns"),
    "an unknown dtype": (of_points(dtype="int8"), "calibration.yaml", "dtype"),
    "points of an unknown frame": (of_points(frame="velodyne"), "calibration.yaml", "velodyne"),
    "points into an unknown frame": (of_points(into="vehicle"), "calibration.yaml", "vehicle"),
    "an intensity_max of 0": (of_points(intensity_max=0), "calibration.yaml", "intensity_max"),
    "poses of an unknown frame": (changed(poses_of="imu"), "calibration.yaml", "imu"),
    "a split of unknown scenes": (changed(splits={"train": ["friday"]}), "calibration.yaml", "friday"),
    # readings
    "a table without columns": (table(head="sweep,file"), "readings.csv", "time_us"),
    "an empty table": (table(), "readings.csv", "lidar"),
    "a table in UTF-16": (text("readings.csv", "sweep".encode("utf-16")), "readings.csv", "UTF-8"),
    "a table with a quote that does not close": (table('000,"lidar,points/000.bin,0'), "readings.csv", "CSV"),
    "a line that is too short": (table("000,lidar"), "readings.csv", "line 2"),
    "a line that is too long": (table(LIDAR + ",1,2"), "readings.csv", "line 2"),
    "seconds": (table("000,lidar,points/000.bin,17.5", FRONT), "readings.csv", "1,000,000"),
    "a time before all": (table("000,lidar,points/000.bin,-5", FRONT), "readings.csv", "time_us"),
    "a sweep twice": (table(LIDAR, LIDAR, FRONT), "readings.csv", "second reading"),
    "images without a sweep": (table(LIDAR, FRONT, "001,front,images/front/001.png,0"), "readings.csv", "001"),
    "a file outside": (table("000,lidar,../points/000.bin,0", FRONT), "readings.csv", "without .."),
    "an absolute file": (table("000,lidar,/etc/passwd.bin,0", FRONT), "readings.csv", "outside"),
    "a sweep with a slash": (table("../../x,lidar,points/000.bin,0", FRONT), "readings.csv", "names no sweep"),
    "no point file": (table("000,lidar,images/front/000.png,0", FRONT), "readings.csv", "no point file"),
    "a file that is not there": (table(LIDAR, "000,front,images/front/9.png,0"), "9.png", "does not exist"),
    "an unknown sensor": (table(LIDAR, FRONT, "000,rear,images/front/000.png,0"), "calibration.yaml", "rear"),
    "poses of nothing": (
        table(LIDAR + ",0,0,0,1,0,0,0", FRONT + ",0,0,0,1,0,0,0", head=POSED),
        "calibration.yaml",
        "poses_of",
    ),
    "half the poses": (
        table(LIDAR + ",0,0,0,1,0,0,0", FRONT + ",,,,,,,", head=POSED),
        "readings.csv",
        "some have none",
    ),
    "half a pose": (table(LIDAR + ",0,0,,1,0,0,0", FRONT, head=POSED), "readings.csv", "pose"),
    "a pose of NaN": (table(LIDAR + ",nan,0,0,1,0,0,0", FRONT, head=POSED), "readings.csv", "line 2"),
    "a quaternion w last": (table(LIDAR + ",0,0,0,0,0,0,2", FRONT, head=POSED), "readings.csv", "w first"),
    # labels
    "labels without a taxonomy": (labels("000.npy", np.zeros(516, int), None), "taxonomy.yaml", "taxonomy"),
    "labels of another number": (labels("000.npy", np.zeros(9, int)), "000.npy", "9 labels for 516"),
    "labels of no sweep": (labels("777.npy", np.zeros(9, int)), "777.npy", "no sweep"),
    "labels of float": (labels("000.npy", np.zeros(516)), "000.npy", "whole numbers"),
    "negative labels": (labels("000.npy", np.full(516, -1)), "000.npy", "whole numbers"),
    "labels beyond 32 bits": (labels("000.npy", np.full(516, 2**33)), "000.npy", "32 bits"),
    "labels of two dimensions": (labels("000.npy", np.zeros((516, 1), int)), "000.npy", "shape"),
    "pickled labels": (labels("000.npy", np.array([{}] * 516, object)), "000.npy", "read"),
    "labels cut off": (labels("000.npy", saved(np.save, np.zeros(516, int))[:-9]), "000.npy", "read"),
    "labels of two arrays": (labels("000.npz", {"a": np.zeros(3), "b": np.zeros(3)}), "000.npz", "read"),
    "labels of another suffix": (labels("000.label", bytes(8)), "000.label", "Convert"),
    "a taxonomy that is none": (text("taxonomy.yaml", "name: x"), "taxonomy.yaml", "taxonomy"),
    "a taxonomy that is no YAML": (text("taxonomy.yaml", "a: ["), "taxonomy.yaml", "taxonomy"),
    "a taxonomy that submits": (
        text("taxonomy.yaml", yaml.safe_dump(TAXONOMY | {"submission": "nuscenes"})),
        "taxonomy.yaml",
        "submission",
    ),
    # names
    "names that are too long": (
        lambda r: [
            (r / p / f"000{s}").rename(r / p / f"{'x' * 220}{s}")
            for p, s in (("points", ".bin"), ("images/front", ".png"))
        ],
        "xxx",
        "Rename",
    ),
}


def test_the_campaign_is_as_large_as_it_says():
    assert len(CASES) >= 130


@pytest.mark.parametrize("name", CASES)
def test_a_bad_recording_names_the_file_and_what_to_do(name, tmp_path):
    do, file, says = CASES[name]
    root = write_recording(tmp_path / "a b=c é", frames=1)
    assert use(root) == []
    do(root)
    with pytest.raises(OvpsError) as error:
        use(root)
    text = str(error.value)
    assert file in str(error.value.path)
    assert str(root) in str(error.value.path)
    assert says in text, text
    assert error.value.remedy, text
    assert len(text) < 1000, text


@pytest.mark.parametrize("name", ["._000.bin", ".DS_Store"])
def test_hidden_files_are_passed_over(name, tmp_path):
    root = write_recording(tmp_path / "drive")
    for folder in ("points", "images/front", "."):
        (root / folder / name).write_bytes(b"\x00\x05\x16\x07")
    assert use(root) == []


def test_points_of_kilometres_are_told(tmp_path):
    root = write_recording(tmp_path / "drive", frames=1)
    (root / "points" / "000.bin").write_bytes((rows_of(0) * np.float32([1000, 1000, 1000, 1])).tobytes())
    (fault,) = use(root)
    assert "farther than 1000 m" in fault
