"""Corrupt recordings of one's own: points, images, calibration, table of readings, labels."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.spatial.transform import Rotation

from tests.corrupt import damage as d
from tests.corrupt.campaign import ROOT, Campaign, Case, cases
from tests.datasets.test_folder import TAXONOMY, write_pcd, write_ply
from tests.helpers import recording
from tests.helpers.recording import (
    CAMERA_FROM_LIDAR,
    HEIGHT,
    WIDTH,
    calibration,
    image_of,
    rows_of,
    write_calibration,
    write_readings,
    write_recording,
)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory) -> Campaign:
    folder = tmp_path_factory.mktemp("corrupt_folder")
    root = write_recording(folder / ROOT, frames=2)  # which names its scene
    (root / "taxonomy.yaml").write_text(yaml.safe_dump(TAXONOMY))
    (root / "labels").mkdir()
    for number in range(2):
        np.save(root / "labels" / f"{number:03d}.npy", label_of())
    return Campaign.of(root, folder / "zarr", dataset="folder", subsets=("val",))


def label_of() -> np.ndarray:
    """(N,) uint16: the balls are one ball, the rest is the floor."""
    return np.where(np.arange(len(rows_of(0))) < recording.POINTS * len(recording.BALLS), 1001, 2000).astype(np.uint16)


def points(name: str, content: bytes | Callable[[Path], None]) -> d.Damage:
    """Put another point file in the place of the first."""

    def do(root: Path) -> None:
        (root / "points" / "000.bin").unlink()
        path = root / "points" / name
        path.write_bytes(content) if isinstance(content, bytes) else content(path)

    return do


def image(name: str, write: Callable[[Path], object] | bytes) -> d.Damage:
    def do(root: Path) -> None:
        folder = root / "images" / "front"
        (folder / "000.png").unlink()
        (folder / name).write_bytes(write) if isinstance(write, bytes) else write(folder / name)

    return do


def changed(**parts) -> d.Damage:
    return lambda root: write_calibration(root, calibration() | parts)


def camera(**parts) -> d.Damage:
    return changed(cameras={"front": calibration()["cameras"]["front"] | parts})


def of_points(**parts) -> d.Damage:
    return changed(points=calibration()["points"] | parts)


def transform(**parts) -> d.Damage:
    return changed(transforms=[{"from": "lidar", "to": "front"} | parts])


def text(name: str, content: str | bytes) -> d.Damage:
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda root: (root / name).write_bytes(raw)


HEAD = "sweep,sensor,file,time_us"


def table(*lines: str, head: str = HEAD) -> d.Damage:
    return lambda root: write_readings(root, [head, *lines])


def labels(name: str, content: object) -> d.Damage:
    """Put other labels in the place of those of the first sweep."""

    def do(root: Path) -> None:
        path = root / "labels" / name
        if path.stem == "000":
            (root / "labels" / "000.npy").unlink()
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".npz":
            np.savez(path, **content)
        else:
            np.save(path, content, allow_pickle=True)

    return do


def renamed(paths: Sequence[str], stem: str) -> d.Damage:
    return lambda root: [(root / path).rename((root / path).with_stem(stem)) for path in paths]


def stray(*names: str) -> d.Damage:
    return lambda root: [d.beside(name)(root) for name in names]


def looped_folder(name: str) -> d.Damage:
    def do(root: Path) -> None:
        shutil.rmtree(root / name)
        (root / name).symlink_to((root / name).name)

    return do


def more_cameras(camera_from_lidar: np.ndarray) -> d.Damage:
    """A camera more, beside the one that sees something."""

    def do(root: Path) -> None:
        shutil.copytree(root / "images" / "front", root / "images" / "up")
        content = calibration()
        content["cameras"]["up"] = content["cameras"]["front"]
        content["transforms"].append({"from": "lidar", "to": "up", "matrix": camera_from_lidar.tolist()})
        write_calibration(root, content)

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


def longer_pcd(path: Path) -> None:
    write_pcd(path, rows_of(0), "binary")
    number = len(rows_of(0))
    shorter = path.read_bytes().replace(b" %d\n" % number, b" %d\n" % (number - 1))  # WIDTH and POINTS
    path.write_bytes(shorter)


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


def point_file(root: Path) -> Path:
    return root / FIRST[0]


def image_file(root: Path) -> Path:
    return root / FIRST[1]


def label_file(root: Path) -> Path:
    return root / FIRST[2]


def calibration_file(root: Path) -> Path:
    return root / "calibration.yaml"


FIRST = ("points/000.bin", "images/front/000.png", "labels/000.npy")
COLUMNS = 4
LOOKS_UP = np.eye(4)  # z of the camera is z of the LiDAR
ALIASES = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(8 * ['*' + a])}]\n" for a, b in itertools.pairwise("abcdefghij")
)
PLAIN = Image.fromarray(image_of(0))
LIDAR = "000,lidar,points/000.bin,0"
FRONT = "000,front,images/front/000.png,0"
SECOND = ("001,lidar,points/001.bin,0", "001,front,images/front/001.png,0")
EYE = np.eye(4).tolist()
XYZW = Rotation.from_matrix(CAMERA_FROM_LIDAR[:3, :3]).as_quat().tolist()
POSED = "sweep,sensor,file,time_us,x,y,z,qw,qx,qy,qz"
POSES_XYZW = [
    f"{line},0,0,0,0,0,{z},{w}" for z, w, lines in ((0, 1, (LIDAR, FRONT)), (0.6, 0.8, SECOND)) for line in lines
]


POINTS = (
    Case("empty .bin", points("000.bin", b""), "quarantined", "empty", "000.bin"),
    Case(
        ".bin cut off within a row", points("000.bin", rows_of(0).tobytes()[:-5]), "quarantined", "columns", "000.bin"
    ),
    Case(
        ".bin of three columns", points("000.bin", rows_of(0)[:-1, :3].tobytes()), "quarantined", "columns", "000.bin"
    ),
    Case(".bin of float64", points("000.bin", rows_of(0).astype(float).tobytes()), "quarantined", "points", "000.bin"),
    Case(
        ".bin with NaN",
        points("000.bin", rows(lambda r: r.__setitem__((3, 0), np.nan))),
        "quarantined",
        "invalid: drop",
        "000.bin",
    ),
    Case(
        ".bin with infinity",
        points("000.bin", rows(lambda r: r.__setitem__((3, 2), np.inf))),
        "quarantined",
        "invalid: drop",
        "000.bin",
    ),
    Case(
        ".bin with intensity NaN",
        points("000.bin", rows(lambda r: r.__setitem__((3, 3), np.nan))),
        "quarantined",
        "NaN",
        "000.bin",
    ),
    Case(
        "intensities beyond",
        points("000.bin", rows(lambda r: r.__setitem__((3, 3), 4000))),
        "quarantined",
        "intensity_max",
        "000.bin",
    ),
    Case(
        "negative intensities",
        points("000.bin", rows(lambda r: r.__setitem__((3, 3), -3))),
        "quarantined",
        "intensit",
        "000.bin",
    ),
    Case(".bin that is a pcd", points("000.bin", b"# .PCD v0.7\n" + bytes(4)), "quarantined", "PCD", "000.bin"),
    Case(".bin that is an npy", points("000.bin", saved(np.save, rows_of(0))), "quarantined", "npy", "000.bin"),
    Case(
        "a pointer of Git LFS",
        points("000.bin", b"version https://git-lfs.github.com/spec/v1\n"),
        "quarantined",
        "git lfs",
        "000.bin",
    ),
    Case("a web page", points("000.bin", b"<!DOCTYPE html>"), "quarantined", "web page", "000.bin"),
    Case("a folder as point file", points("000.bin", lambda p: p.mkdir()), "quarantined", "folder", "000.bin"),
    Case("a point file that is a loop", d.looped(point_file), "quarantined", "cannot be read", "000.bin"),
    Case("pickled .npy", points("000.npy", saved(np.save, np.array([{}], object))), "quarantined", "read", "000.npy"),
    Case("a pickle called .npy", points("000.npy", pickle.dumps([1])), "quarantined", "read", "000.npy"),
    Case(".npy cut off", points("000.npy", saved(np.save, rows_of(0))[:-40]), "quarantined", "read", "000.npy"),
    Case(
        ".npy of one dimension",
        points("000.npy", saved(np.save, rows_of(0).ravel())),
        "quarantined",
        "shape",
        "000.npy",
    ),
    Case(
        ".npy of an organised cloud",
        points("000.npy", saved(np.save, rows_of(0)[None])),
        "quarantined",
        "reshape.-1, 4. makes one row of each point",
        "000.npy",
    ),
    Case(
        ".npy of five columns",
        points("000.npy", saved(np.save, np.zeros((9, 5)))),
        "quarantined",
        r"shape \(9, 5\)",
        "000.npy",
    ),
    Case(".npy of texts", points("000.npy", saved(np.save, np.full((9, 4), "a"))), "quarantined", "kinds", "000.npy"),
    Case(
        ".npy of complex numbers",
        points("000.npy", saved(np.save, np.ones((9, 4), complex))),
        "quarantined",
        "kinds",
        "000.npy",
    ),
    Case(
        ".npy without points",
        points("000.npy", saved(np.save, np.zeros((0, 4)))),
        "quarantined",
        "no valid point",
        "000.npy",
    ),
    Case(
        ".npy that says more than it has",
        points("000.npy", saved(np.save, np.zeros((1, 4))).replace(b"(1, 4)", b"(9999999999, 4)")[:-8]),
        "quarantined",
        "read",
        "000.npy",
    ),
    Case(".npy called .npz", points("000.npz", saved(np.save, rows_of(0))), "quarantined", "npy", "000.npz"),
    Case(
        ".npz of two arrays",
        points("000.npz", saved(np.savez, a=rows_of(0), b=rows_of(1))),
        "quarantined",
        "array",
        "000.npz",
    ),
    Case(".npz cut off", points("000.npz", saved(np.savez, a=rows_of(0))[:900]), "quarantined", "read", "000.npz"),
    Case(
        ".npz with a flipped bit",
        points("000.npz", flipped(saved(np.savez_compressed, a=rows_of(0)))),
        "quarantined",
        "read",
        "000.npz",
    ),
    Case(
        ".npz with pickled points",
        points("000.npz", saved(np.savez, a=np.array([{}], object))),
        "quarantined",
        "read",
        "000.npz",
    ),
    Case(".npz that is a bomb", points("000.npz", bomb), "quarantined", "unpacks to", "000.npz"),
    Case(".npz without arrays", points("000.npz", saved(np.savez)), "quarantined", "array", "000.npz"),
    Case(".pcd of text cut off", points("000.pcd", cut(pcd("ascii"), 0.7)), "quarantined", "read", "000.pcd"),
    Case(".pcd cut off", points("000.pcd", cut(pcd("binary"), 0.7)), "quarantined", "cut off", "000.pcd"),
    Case(".pcd with more points than it says", points("000.pcd", longer_pcd), "quarantined", "header says", "000.pcd"),
    Case(
        ".pcd compressed and cut off",
        points("000.pcd", cut(pcd("binary_compressed"), 0.7)),
        "quarantined",
        "cut off",
        "000.pcd",
    ),
    Case(".pcd that lies about its size", points("000.pcd", lying_pcd), "quarantined", "header", "000.pcd"),
    Case(".pcd of 400 million points", points("000.pcd", huge_pcd), "quarantined", "header", "000.pcd"),
    Case(".pcd without a header", points("000.pcd", b"1 2 3\n4 5 6\n"), "quarantined", "read", "000.pcd"),
    Case(
        ".pcd of width 1 and 9 points",
        points(
            "000.pcd",
            b"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 1\nHEIGHT 1\nPOINTS 9\n"
            b"DATA binary\n" + bytes(108),
        ),
        "quarantined",
        "9 points",
        "000.pcd",
    ),
    Case(
        ".pcd without z",
        points(
            "000.pcd",
            b"VERSION 0.7\nFIELDS x y\nSIZE 4 4\nTYPE F F\nCOUNT 1 1\nWIDTH 1\nHEIGHT 1\nPOINTS 1\nDATA ascii\n1 2\n",
        ),
        "quarantined",
        "no z",
        "000.pcd",
    ),
    Case(
        ".ply of text cut off",
        points("000.ply", cut(lambda p, r: write_ply(p, r, True), 0.7)),
        "quarantined",
        "read",
        "000.ply",
    ),
    Case(
        ".ply cut off",
        points("000.ply", cut(lambda p, r: write_ply(p, r, False), 0.7)),
        "quarantined",
        "read",
        "000.ply",
    ),
    Case(
        ".ply without vertices",
        points("000.ply", b"ply\nformat ascii 1.0\nend_header\n"),
        "quarantined",
        "read",
        "000.ply",
    ),
    Case(
        ".ply of a billion vertices",
        points(
            "000.ply",
            b"ply\nformat binary_little_endian 1.0\nelement vertex 999999999\nproperty float x\n"
            b"property float y\nproperty float z\nend_header\n" + bytes(64),
        ),
        "quarantined",
        "read",
        "000.ply",
    ),
    Case("no .ply", points("000.ply", b"\x00\x01"), "quarantined", "read", "000.ply"),
    Case("a suffix that is not read", points("000.las", b"LASF"), "refused", "Convert", "000.las"),
    Case(
        "two files of one name",
        lambda r: np.save(r / "points" / "000.npy", rows_of(0)),
        "refused",
        "one name",
        "000.npy",
    ),
    Case(
        "no points at all",
        lambda r: [p.unlink() for p in (r / "points").iterdir()],
        "refused",
        "no point file",
        "points",
    ),
    Case("no folder of points", lambda r: (r / "points").rename(r / "clouds"), "refused", "points", ""),
    Case(".bin cut off at a row", d.cut(point_file, -16), "quarantined", "labels for", "000"),
    Case(".bin of float16", d.points(point_file, COLUMNS, lambda r: r, "float16"), "quarantined", "", "000.bin"),
    Case(".bin in big endian", d.points(point_file, COLUMNS, lambda r: r, ">f4"), "quarantined", "", "000.bin"),
    Case(".bin of zeros", d.points(point_file, COLUMNS, np.zeros_like), "quarantined", "invalid: drop", "000.bin"),
    Case(
        "3 of 10 pulses without a return",
        d.points(point_file, COLUMNS, d.without_return),
        "quarantined",
        "invalid: drop",
        "000.bin",
    ),
    Case(
        "3 of 10 pulses without a return, to be dropped",
        lambda r: (of_points(invalid="drop")(r), d.points(point_file, COLUMNS, d.without_return)(r)),
        "taken",
        store_changes=True,
    ),
    Case(
        "points in millimetres",
        d.points(point_file, COLUMNS, lambda r: r * np.float32([1000, 1000, 1000, 1])),
        "quarantined",
        "1000 m",
        "000.bin",
    ),
    Case(
        "all points at the origin",
        lambda r: (of_points(invalid="drop")(r), (r / "points" / "000.bin").write_bytes(bytes(16 * 300))),
        "quarantined",
        "no valid point",
        "000.bin",
    ),
)

IMAGES = (
    Case(
        "an image that a camera dropped",
        lambda r: (r / "images" / "front" / "000.png").unlink(),
        "warned",
        "1 sweep without an image, used as no frame",
        store_changes=True,
    ),
    Case(
        "images of other names than most point files",
        lambda r: [p.rename(p.with_name(f"left{p.name}")) for p in (r / "images" / "front").iterdir()],
        "refused",
        "no image of front",
        "front",
    ),
    Case("no images at all", lambda r: (r / "images").rename(r / "pictures"), "refused", "images/CAMERA", "images"),
    Case("empty image", image("000.png", b""), "quarantined", "empty", "000.png"),
    Case("an image cut off", image("000.png", saved(PLAIN.save, "PNG")[:4000]), "quarantined", "damaged", "000.png"),
    Case("a JPEG cut off", image("000.jpg", saved(PLAIN.save, "JPEG")[:900]), "quarantined", "damaged", "000.jpg"),
    Case(
        "an image of another size",
        image("000.png", lambda p: PLAIN.resize((48, 32)).save(p)),
        "quarantined",
        "48x32",
        "000.png",
    ),
    Case(
        "an image with 16 bits",
        image("000.png", lambda p: Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(p)),
        "quarantined",
        "more than 8 bits",
        "000.png",
    ),
    Case(
        "an image of float",
        image("000.tiff", lambda p: Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)).save(p)),
        "quarantined",
        "more than 8 bits",
        "000.tiff",
    ),
    Case("CMYK", image("000.jpg", lambda p: PLAIN.convert("CMYK").save(p)), "quarantined", "CMYK", "000.jpg"),
    Case("an image to be turned", image("000.jpg", turned), "quarantined", "EXIF", "000.jpg"),
    Case(
        "a transparent image",
        image("000.png", lambda p: Image.new("RGBA", (WIDTH, HEIGHT), (9, 9, 9, 99)).save(p)),
        "quarantined",
        "transparent",
        "000.png",
    ),
    Case(
        "an animation",
        image("000.gif", lambda p: PLAIN.save(p, save_all=True, append_images=[PLAIN.rotate(90)])),
        "quarantined",
        "pictures",
        "000.gif",
    ),
    Case("an image that is a bomb", image("000.png", picture_bomb), "quarantined", "50000", "000.png"),
    Case("a text called image", image("000.png", b"hello"), "quarantined", "no picture", "000.png"),
    Case("a palette", image("000.png", lambda p: PLAIN.quantize(16).save(p)), "taken", store_changes=True),
    Case("grey", image("000.png", lambda p: PLAIN.convert("L").save(p)), "taken", store_changes=True),
    Case("a folder as image", d.as_folder(image_file), "quarantined", "folder", "000.png"),
    Case("an image that is a loop", d.looped(image_file), "quarantined", "cannot be read", "000.png"),
    Case(
        "a folder of images that is not calibrated",
        lambda r: (r / "images" / "front").rename(r / "images" / "rear"),
        "refused",
        "rear",
        "calibration.yaml",
    ),
    Case(
        "two images of one name",
        lambda r: PLAIN.save(r / "images" / "front" / "000.jpg"),
        "refused",
        "one name",
        "000.png",
    ),
)

CALIBRATION = (
    Case(
        "no calibration",
        lambda r: (r / "calibration.yaml").unlink(),
        "refused",
        "no calibration file",
        "calibration.yaml",
    ),
    Case("two calibrations", text("calibration.json", "{}"), "refused", "side by side", ""),
    Case("no YAML", text("calibration.yaml", "a: [1"), "refused", "not yaml", "calibration.yaml"),
    Case(
        "a YAML with Python in it",
        text("calibration.yaml", "!!python/object/apply:os.system [ls]"),
        "refused",
        "not yaml",
        "calibration.yaml",
    ),
    Case("an empty calibration", text("calibration.yaml", ""), "refused", "valid", "calibration.yaml"),
    Case("latin-1", text("calibration.yaml", "caméra: 1".encode("latin-1")), "refused", "not yaml", "calibration.yaml"),
    Case("a list", text("calibration.yaml", "- 1"), "refused", "valid", "calibration.yaml"),
    Case(
        "a calibration of ten megabytes", text("calibration.yaml", "#" * 10**7), "refused", "bytes", "calibration.yaml"
    ),
    Case("an unknown key", changed(lens="wide"), "refused", "lens", "calibration.yaml"),
    Case("no camera", changed(cameras={}), "refused", "cameras", "calibration.yaml"),
    Case(
        "a camera outside",
        changed(cameras={"../front": calibration()["cameras"]["front"]}),
        "refused",
        "folder",
        "calibration.yaml",
    ),
    Case("identity intrinsics", camera(fx=1, fy=1, cx=0, cy=0), "refused", "identity", "calibration.yaml"),
    Case("normalised intrinsics", camera(fx=0.6, fy=0.9, cx=0.5, cy=0.5), "refused", "normalised", "calibration.yaml"),
    Case("a focal length of 0", camera(fx=0), "refused", "focal length of 0", "calibration.yaml"),
    Case("a focal length of NaN", camera(fx=float("nan")), "refused", "fx", "calibration.yaml"),
    Case(
        "another resolution",
        camera(fx=600.0, fy=600.0, cx=480.0, cy=320.0),
        "refused",
        "another resolution",
        "calibration.yaml",
    ),
    Case("an image size of 0", camera(width=0), "refused", "width", "calibration.yaml"),
    Case("distortion without a model", camera(distortion=[0.1, 0, 0, 0]), "refused", "pinhole", "calibration.yaml"),
    Case(
        "three coefficients",
        camera(model="opencv", distortion=[0.1, 0, 0]),
        "refused",
        "coefficients",
        "calibration.yaml",
    ),
    Case("an unknown model", camera(model="omni"), "refused", "model", "calibration.yaml"),
    Case("no transforms", changed(transforms=[]), "refused", "no transforms lead", "calibration.yaml"),
    Case(
        "a transform of another camera",
        changed(transforms=[{"from": "lidar", "to": "rear", "matrix": EYE}]),
        "refused",
        "from lidar to front",
        "calibration.yaml",
    ),
    Case("two ways", changed(transforms=2 * calibration()["transforms"]), "refused", "second way", "calibration.yaml"),
    Case(
        "a matrix and a translation",
        transform(matrix=EYE, translation=[0, 0, 0]),
        "refused",
        "alone",
        "calibration.yaml",
    ),
    Case("half a transform", transform(translation=[0, 0, 0]), "refused", "rotation_wxyz", "calibration.yaml"),
    Case("a mirror", transform(matrix=np.diag([1.0, -1, 1, 1]).tolist()), "refused", "mirror", "calibration.yaml"),
    Case(
        "a scaled rotation", transform(matrix=np.diag([2.0, 2, 2, 1]).tolist()), "refused", "scaled", "calibration.yaml"
    ),
    Case(
        "no rotation", transform(matrix=np.diag([1.0, 3, 1, 1]).tolist()), "refused", "no rotation", "calibration.yaml"
    ),
    Case(
        "a quaternion of length 2",
        transform(translation=[0, 0, 0], rotation_wxyz=[2, 0, 0, 0]),
        "refused",
        "length",
        "calibration.yaml",
    ),
    Case(
        "a quaternion of length 0",
        transform(translation=[0, 0, 0], rotation_wxyz=[0, 0, 0, 0]),
        "refused",
        "length",
        "calibration.yaml",
    ),
    Case(
        "a transposed matrix",
        transform(matrix=np.array(calibration()["transforms"][0]["matrix"]).T.tolist()),
        "refused",
        "last row",
        "calibration.yaml",
    ),
    Case(
        "a camera 300 m away",
        transform(translation=[0, 300, 0], rotation_wxyz=[1, 0, 0, 0]),
        "refused",
        "300 m from the LiDAR",
        "000.png",
    ),
    Case(
        "a translation of two numbers",
        transform(translation=[0, 1], rotation_wxyz=[1, 0, 0, 0]),
        "refused",
        "translation",
        "calibration.yaml",
    ),
    Case("a calibration with a BOM", d.text(calibration_file, lambda t: "\ufeff" + t), "taken"),
    Case("a calibration with CRLF", d.text(calibration_file, lambda t: t.replace("\n", "\r\n")), "taken"),
    Case(
        "a calibration of a hundred thousand brackets",
        text("calibration.yaml", "[" * 100_000),
        "refused",
        "not yaml",
        "calibration.yaml",
    ),
    Case(
        "a calibration in JSON of as many",
        lambda r: (calibration_file(r).unlink(), text("calibration.json", "[" * 100_000)(r)),
        "refused",
        "not json",
        "calibration.json",
    ),
    Case(
        "a calibration in JSON",
        lambda r: (calibration_file(r).unlink(), text("calibration.json", json.dumps(calibration()))(r)),
        "taken",
    ),
    Case(
        "a calibration in JSON that names its points twice",
        lambda r: (
            calibration_file(r).unlink(),
            text("calibration.json", json.dumps(calibration())[:-1] + ', "points": {}}')(r),
        ),
        "refused",
        "points is named twice",
        "calibration.json",
    ),
    Case(
        "a calibration that unpacks to a billion words",
        text("calibration.yaml", ALIASES),
        "refused",
        "",
        "calibration.yaml",
    ),
    Case(
        "a calibration of cameras that unpack to a billion words",
        text("calibration.yaml", ALIASES + "cameras: *j\n"),
        "refused",
        "",
        "calibration.yaml",
    ),
    Case(
        "a quaternion in the order x y z w",
        transform(translation=[0.1, -0.2, -0.5], rotation_wxyz=XYZW),
        "warned",
        "front lies on its side or its head in 2 of 2",
        store_changes=True,
    ),
    Case(
        "the inverse of a transform",
        changed(transforms=[{"from": "front", "to": "lidar", "matrix": CAMERA_FROM_LIDAR.tolist()}]),
        "warned",
        "front lies on its side or its head in 2 of 2",
        store_changes=True,
    ),
    Case("a camera that looks up", transform(matrix=LOOKS_UP.tolist()), "refused", "sees a point", "000.bin"),
    Case(
        "a camera more, that looks up",
        more_cameras(LOOKS_UP),
        "warned",
        "up sees no point in 2 of 2",
        store_changes=True,
    ),
    Case("columns without z", of_points(columns=["x", "y", "intensity"]), "refused", "columns", "calibration.yaml"),
    Case("columns twice", of_points(columns=["x", "x", "y", "z"]), "refused", "columns", "calibration.yaml"),
    Case("an unknown dtype", of_points(dtype="int8"), "refused", "dtype", "calibration.yaml"),
    Case("points of an unknown frame", of_points(frame="velodyne"), "refused", "velodyne", "calibration.yaml"),
    Case("points into an unknown frame", of_points(into="vehicle"), "refused", "vehicle", "calibration.yaml"),
    Case(
        "intensities that are scaled twice",
        of_points(intensity_max=65_535),
        "warned",
        "no intensity is above 0.00389",
        store_changes=True,
    ),
    Case("an intensity_max of 0", of_points(intensity_max=0), "refused", "intensity_max", "calibration.yaml"),
    Case("poses of an unknown frame", changed(poses_of="imu"), "refused", "imu", "calibration.yaml"),
    Case("a split of unknown scenes", changed(splits={"train": ["friday"]}), "refused", "friday", "calibration.yaml"),
)

READINGS = (
    Case("a table without columns", table(head="sweep,file"), "refused", "time_us", "readings.csv"),
    Case("an empty table", table(), "refused", "lidar", "readings.csv"),
    Case("a table in UTF-16", text("readings.csv", "sweep".encode("utf-16")), "refused", "UTF-8", "readings.csv"),
    Case(
        "a table with a quote that does not close",
        table('000,"lidar,points/000.bin,0'),
        "refused",
        "CSV",
        "readings.csv",
    ),
    Case("a line that is too short", table("000,lidar"), "refused", "line 2", "readings.csv"),
    Case("a line that is too long", table(LIDAR + ",1,2"), "refused", "line 2", "readings.csv"),
    Case("seconds", table("000,lidar,points/000.bin,17.5", FRONT), "refused", "1,000,000", "readings.csv"),
    Case("a time before all", table("000,lidar,points/000.bin,-5", FRONT), "refused", "time_us", "readings.csv"),
    Case("a table of 0 bytes", text("readings.csv", ""), "refused", "", "readings.csv"),
    Case("a table with a BOM", table(LIDAR, FRONT, *SECOND, head="\ufeff" + HEAD), "taken"),
    Case("a table with CRLF", table(*(f"{line}\r" for line in (LIDAR, FRONT, *SECOND)), head=HEAD + "\r"), "taken"),
    Case(
        "poses in the order x y z w",
        lambda r: (changed(poses_of="lidar")(r), table(*POSES_XYZW, head=POSED)(r)),
        "warned",
        "tilted",
        store_changes=True,
    ),
    Case("a sweep twice", table(LIDAR, LIDAR, FRONT), "refused", "second reading", "readings.csv"),
    Case(
        "images without a sweep",
        table(LIDAR, FRONT, "001,front,images/front/001.png,0"),
        "refused",
        "001",
        "readings.csv",
    ),
    Case("a file outside", table("000,lidar,../points/000.bin,0", FRONT), "refused", "without [.][.]", "readings.csv"),
    Case(
        "a file as Windows writes it",
        table("000,lidar,points\\000.bin,0", FRONT),
        "refused",
        "Write / between folders",
        "readings.csv",
    ),
    Case("an absolute file", table("000,lidar,/etc/passwd.bin,0", FRONT), "refused", "outside", "readings.csv"),
    Case(
        "a sweep with a slash",
        table("../../x,lidar,points/000.bin,0", FRONT),
        "refused",
        "names no sweep",
        "readings.csv",
    ),
    Case("no point file", table("000,lidar,images/front/000.png,0", FRONT), "refused", "no point file", "readings.csv"),
    Case(
        "a file that is not there",
        table(LIDAR, "000,front,images/front/9.png,0", *SECOND),
        "quarantined",
        "does not exist",
        "9.png",
    ),
    Case(
        "an unknown sensor",
        table(LIDAR, FRONT, "000,rear,images/front/000.png,0", *SECOND),
        "refused",
        "rear",
        "calibration.yaml",
    ),
    Case(
        "poses of nothing",
        table(*(line + ",0,0,0,1,0,0,0" for line in (LIDAR, FRONT, *SECOND)), head=POSED),
        "refused",
        "poses_of",
        "calibration.yaml",
    ),
    Case(
        "half the poses",
        table(LIDAR + ",0,0,0,1,0,0,0", FRONT + ",,,,,,,", head=POSED),
        "refused",
        "some have none",
        "readings.csv",
    ),
    Case("half a pose", table(LIDAR + ",0,0,,1,0,0,0", FRONT, head=POSED), "refused", "pose", "readings.csv"),
    Case("a pose of NaN", table(LIDAR + ",nan,0,0,1,0,0,0", FRONT, head=POSED), "refused", "line 2", "readings.csv"),
    Case(
        "a quaternion w last", table(LIDAR + ",0,0,0,0,0,0,2", FRONT, head=POSED), "refused", "w first", "readings.csv"
    ),
)

LABELS = (
    Case("labels without a taxonomy", lambda r: (r / "taxonomy.yaml").unlink(), "refused", "taxonomy", "taxonomy.yaml"),
    Case("labels of another number", labels("000.npy", np.zeros(9, int)), "quarantined", "9 labels for 516", "000.npy"),
    Case("labels of 0 bytes", labels("000.npy", b""), "quarantined", "empty", "000.npy"),
    Case("labels of an unknown class", labels("000.npy", np.full(516, 7001)), "taken", store_changes=True),
    Case("instances beyond the divisor", labels("000.npy", np.full(516, 65_536)), "taken", store_changes=True),
    Case("labels of nothing", labels("000.npy", np.zeros(516, int)), "taken", store_changes=True),
    Case("a taxonomy with a BOM", d.text(lambda r: r / "taxonomy.yaml", lambda t: "\ufeff" + t), "taken"),
    Case(
        "a taxonomy of a hundred thousand brackets",
        text("taxonomy.yaml", "[" * 100_000),
        "refused",
        "taxonomy",
        "taxonomy.yaml",
    ),
    Case(
        "a taxonomy that unpacks to a billion words",
        text("taxonomy.yaml", ALIASES),
        "refused",
        "taxonomy",
        "taxonomy.yaml",
    ),
    Case("labels of no sweep", labels("777.npy", np.zeros(9, int)), "refused", "no sweep", "777.npy"),
    Case("labels of float", labels("000.npy", np.zeros(516)), "quarantined", "whole numbers", "000.npy"),
    Case("negative labels", labels("000.npy", np.full(516, -1)), "quarantined", "whole numbers", "000.npy"),
    Case("labels beyond 32 bits", labels("000.npy", np.full(516, 2**33)), "quarantined", "32 bits", "000.npy"),
    Case("labels of two dimensions", labels("000.npy", np.zeros((516, 1), int)), "quarantined", "shape", "000.npy"),
    Case("pickled labels", labels("000.npy", np.array([{}] * 516, object)), "quarantined", "read", "000.npy"),
    Case(
        "labels cut off", labels("000.npy", saved(np.save, np.zeros(516, int))[:-9]), "quarantined", "read", "000.npy"
    ),
    Case(
        "labels of two arrays",
        labels("000.npz", {"a": np.zeros(3), "b": np.zeros(3)}),
        "quarantined",
        "read",
        "000.npz",
    ),
    Case("labels of another suffix", labels("000.label", bytes(8)), "refused", "Convert", "000.label"),
    Case("a taxonomy that is none", text("taxonomy.yaml", "name: x"), "refused", "taxonomy", "taxonomy.yaml"),
    Case("a taxonomy that is no YAML", text("taxonomy.yaml", "a: ["), "refused", "taxonomy", "taxonomy.yaml"),
    Case(
        "a taxonomy that submits",
        text("taxonomy.yaml", yaml.safe_dump(TAXONOMY | {"submission": "nuscenes"})),
        "refused",
        "submission",
        "taxonomy.yaml",
    ),
)

FOLDER = (
    Case("names that are too long", renamed(FIRST, "x" * 220), "refused", "Rename", "xxx"),
    Case("names with spaces, signs and other alphabets", renamed(FIRST, "a b=c é 東 000"), "taken", store_changes=True),
    Case("stray ._ files", stray("._000.bin", "._000.png", "._000.npy", "._readings.csv"), "taken"),
    Case("stray .DS_Store", stray(".DS_Store"), "taken"),
    Case("points linked from outside", d.outside(point_file), "taken"),
    Case("an image linked from outside", d.outside(image_file), "taken"),
    Case("labels linked from outside", d.outside(label_file), "taken"),
    Case("a calibration linked from outside", d.outside(calibration_file), "taken"),
    Case(
        "a calibration that is a loop",
        d.looped(calibration_file),
        "refused",
        "no calibration|cannot be read",
        "calibration",
    ),
    Case("labels that are a loop", d.looped(label_file), "quarantined", "symbolic links", "000.npy"),
    Case("a taxonomy that is a loop", d.looped(lambda r: r / "taxonomy.yaml"), "refused", "", "taxonomy.yaml"),
    Case(
        "a folder that links to the root",
        lambda r: (r / "points" / "again").symlink_to(r),
        "refused",
        "not one of",
        "again",
    ),
    Case("a folder of images that is a loop", looped_folder("images/front"), "refused", "", "images"),
    Case("a folder of points that is a loop", looped_folder("points"), "refused", "", ""),
)


@cases(*POINTS, *IMAGES, *CALIBRATION, *READINGS, *LABELS, *FOLDER)
def test_folder(campaign, case, tmp_path):
    campaign.check(case, tmp_path)
