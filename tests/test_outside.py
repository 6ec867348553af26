"""Another package brings a data set, an encoder, a codec, a system and an engine: the whole way goes through them.

Data set, encoder and codec are the code of the pages that say how to add one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovps.cache.reader import Store
from ovps.training.run_files import load_settings
from tests.pipelines.untrained import TINY

ROOT = Path(__file__).parent.parent
PAGES = {"shapes.py": "add_a_data_set.md", "colours.py": "add_an_encoder.md", "bytes.py": "add_a_codec.md"}
CLASSES = {1: (255, 0, 0), 2: (0, 0, 255), 3: (0, 255, 0)}  # raw class and colour of what it looks like
WIDTH, HEIGHT = 96, 64


def blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The package, installed into a folder of its own without network."""
    folder = tmp_path_factory.mktemp("outside")
    source = shutil.copytree(ROOT / "tests" / "outside", folder / "source")
    for module, page in PAGES.items():
        (code,) = blocks(page, "python")
        (source / "outside" / module).write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(folder / "site"), str(source)], check=True, capture_output=True)
    return folder / "site"


def write_shapes(root: Path) -> None:
    """Two frames a split: a red box and a blue ball on a green floor, in front of one camera."""
    camera_from_lidar = np.eye(4)
    camera_from_lidar[:3, :3] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    intrinsics = np.array([[80.0, 0, WIDTH / 2], [0, 80.0, HEIGHT / 2], [0, 0, 1]])
    for split, subset in enumerate(("train", "val")):
        for number in range(2):
            rng = np.random.default_rng((split, number))
            parts = {1: ((-2, 8, 0), 1.0), 2: ((2, 8, 0), 1.0), 3: ((0, 8, -2), 3.0)}
            xyz, label, image = [], [], np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            for raw, (centre, size) in parts.items():
                offsets = rng.uniform(-0.5, 0.5, (60, 3)) * (size, 1.0, 0.2 if raw == 3 else size)
                points = np.float32(offsets + centre)
                xyz.append(points)
                label.append(np.full(60, 1000 * raw + (raw < 3), np.uint32))
                x, y, z = (points @ camera_from_lidar[:3, :3].T).T
                for u, v in zip(80 * x / z + WIDTH / 2, 80 * y / z + HEIGHT / 2, strict=True):
                    image[max(0, int(v) - 2) : int(v) + 3, max(0, int(u) - 2) : int(u) + 3] = CLASSES[raw]
            path = root / "v1" / subset / f"{subset}-scene" / f"{number:03d}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(
                path,
                xyz=np.concatenate(xyz),
                intensity=rng.random(180, np.float32),
                label=np.concatenate(label),
                image=image,
                intrinsics=intrinsics,
                camera_from_lidar=camera_from_lidar,
            )


def ovps(installed: Path, folder: Path, *commands: str) -> subprocess.CompletedProcess[str]:
    """Command lines one after another, in one process: it takes seconds to import torch."""
    code = (
        "import sys\nfrom ovps.cli import main\n"
        "for line in sys.argv[1:]:\n"
        "    sys.argv = ['ovps', *line.split()]\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n"
        "        if end.code: raise\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-c", code, *commands],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_whole_way_with_things_of_another_package(installed, tmp_path):
    write_shapes(tmp_path / "data" / "shapes")  # where it is looked for unasked
    (tmp_path / "split.yaml").write_text("{name: shapes, taxonomy: shapes, novel: [ball]}")
    (tmp_path / "sharp.yaml").write_text("settings: {system: sharp}")
    settings = " ".join(f"--set {setting}" for setting in (*TINY, "steps=2") if setting != "steps=1")
    images = tmp_path / "photos"
    images.mkdir()
    Image.new("RGB", (20, 10), (10, 0, 250)).save(images / "blue.png")
    run = ovps(
        installed,
        tmp_path,
        "precompute --dataset shapes --encoder colours --codec bytes --workers 0 --grid cylinder:60x45x8",
        f"train --split split.yaml --system sharp.yaml --set model.encoder.backend=lanes --out run {settings}",
        "eval --run run --json",
        f"vocab build --names box=red,floor:stuff=green --images ball={images} --out v.safetensors",
        "predict --run run --out own --set merge.score=0 --set merge.mask=0.02 --set merge.overlap=0",
        "predict --run run --out any --vocab v.safetensors",
        "tune --run run",
    )
    assert run.returncode == 0, run.stdout + run.stderr

    store = Store.open(tmp_path / "zarr")
    known = store.provenance
    assert (known.dataset, known.dataset_version, known.taxonomy) == ("shapes", "v1", "shapes")
    assert (known.encoder, known.codec, known.clip_dim) == ("colours", "bytes", 4)
    assert known.occlusion["vertical_deg"] == 3.0
    assert load_settings(tmp_path / "run")[0].model.encoder.backend == "lanes"
    assert store.vocabulary.names == ("box", "ball", "floor")
    assert len(store.frames) == 4
    scores = json.loads((tmp_path / "run" / "eval" / "metrics.json").read_text())
    assert "ball" in json.dumps(scores)
    assert list((tmp_path / "own").rglob("*.np*"))
    assert list((tmp_path / "any").rglob("*.np*"))


def test_points_have_the_colour_of_their_class(installed, tmp_path):
    """Through files, projection, cells and a lossy codec: the feature of a class is nearest to its own text."""
    write_shapes(tmp_path / "data" / "shapes")
    run = ovps(
        installed,
        tmp_path,
        "precompute --dataset shapes --encoder colours --codec bytes --workers 0 --no-occlusion",
    )
    assert run.returncode == 0, run.stderr
    code = """
import numpy as np
from pathlib import Path
from ovps.cache.reader import Store
store = Store.open(Path("zarr"))
frame = store.read(store.frames[0])
named = (frame.clip @ store.vocabulary.embeddings.T).argmax(1)[frame.point_voxel] + 1
seen = frame.views > 0
print((named == frame.label // 1000)[seen].mean())
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)])}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert float(found.stdout) > 0.9


def test_an_error_lists_what_is_there(installed, tmp_path):
    run = ovps(installed, tmp_path, "precompute --dataset nothing")
    assert run.returncode == 2
    assert "nuscenes, semantickitti, folder, shapes" in run.stderr


@pytest.mark.parametrize("page", PAGES.values())
def test_a_page_shows_the_entry_point_that_is_installed(page):
    (toml,) = blocks(page, "toml")
    assert toml in (ROOT / "tests" / "outside" / "pyproject.toml").read_text("utf-8")
