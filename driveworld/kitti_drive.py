"""One scene of the data set in KITTI's odometry layout, with the labels of SemanticKITTI: see `driveworld.drive`."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from driveworld import kitti_rig as rig
from driveworld.drive import FRAME_PERIOD, DriveSpec, save, save_record
from driveworld.kitti_labels import raw_label
from driveworld.lidar import sweep
from driveworld.raycast import Caster
from driveworld.render import render
from driveworld.rig import make_drive
from driveworld.scene import make_scene, snapshot
from ovps.taxonomy import load_taxonomy


def sequence_name(index: int) -> str:
    """Name of a scene's folder."""
    return f"{index:02d}"


def write_sequence(spec: DriveSpec) -> Path:
    """Write the files of one sequence, then its record. Returns the record's path.

    Cameras and LiDAR fire at one moment, as KITTI's do.
    """
    scene_rng = spec.rng(0)
    scene = make_scene(scene_rng, duration=spec.frames * FRAME_PERIOD)
    drive = make_drive(scene_rng, scene.ego_speed, scene.lane_y)
    labels = np.array([raw_label(item, number) for number, item in enumerate(scene.objects, start=1)], np.uint32)
    folder = Path(spec.out) / "sequences" / sequence_name(spec.index)
    size = spec.image_size
    points, segments, poses = 0, Counter[str](), []
    files: list[Path] = []
    for frame in range(spec.frames):
        time = frame * FRAME_PERIOD
        ego = drive.scene_from_ego(time)
        caster = Caster(snapshot(scene, time, drive.pose(time)[0][0]))
        picture = render(scene, caster, rig.intrinsics(size), ego @ rig.ego_from_camera2(), size, spec.rng(1, frame, 0))
        cloud = sweep(caster, ego @ rig.EGO_FROM_LIDAR, spec.azimuth_steps, spec.rng(2, frame), rig.BEAMS)
        content = io.BytesIO()
        Image.fromarray(picture.rgb).save(content, format="png")
        rows, raw = cloud.points[:, :4] / np.array([1, 1, 1, 255], np.float32), labels[cloud.objects]
        rows[:, 3] = rows[:, 3].round(2)
        for kind, name, made in (
            ("image_2", f"{frame:06d}.png", content.getvalue()),
            ("velodyne", f"{frame:06d}.bin", rows.astype("<f4").tobytes()),
            ("labels", f"{frame:06d}.label", raw.astype("<u4").tobytes()),
        ):
            save(folder / kind / name, lambda path, made=made: path.write_bytes(made))  # type: ignore[misc]
            files.append(folder / kind / name)
        points += len(rows)
        segments += _segments(raw)
        poses.append(ego @ rig.EGO_FROM_CAMERA0)
    first = np.linalg.inv(poses[0])
    for name, lines in (
        ("calib.txt", rig.calibration(size)),
        ("poses.txt", "".join(f"{rig.numbers((first @ pose)[:3])}\n" for pose in poses)),
        ("times.txt", "".join(f"{frame * FRAME_PERIOD:.6e}\n" for frame in range(spec.frames))),
    ):
        save(folder / name, lambda path, lines=lines: path.write_text(lines, encoding="utf-8"))  # type: ignore[misc]
        files.append(folder / name)
    return save_record(spec, {"points": points, "segments": dict(segments)}, files)


def _segments(raw: np.ndarray) -> Counter[str]:
    """Segments by class that are large enough to be evaluated."""
    taxonomy = load_taxonomy("semantickitti")
    semantic, segment = taxonomy.true_segments(raw)
    pairs, size = np.unique(np.stack([semantic, segment], 1), axis=0, return_counts=True)
    kept = pairs[(size >= taxonomy.min_points) & (pairs[:, 0] > 0), 0]
    return Counter(taxonomy.by_id[int(class_id)].name for class_id in kept)
