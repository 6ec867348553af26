"""Pictures beside what is shown, of a data set some of whose images are gone or damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ovps.cache.reader import Store
from ovps.errors import DatasetError
from pipelines.images import Images
from pipelines.look import image_reader, open_catalogue
from pipelines.options import QueryOptions, ViewOptions
from pipelines.precompute import precompute
from pipelines.query import query
from pipelines.view import write_html
from tests.helpers.mini_nuscenes import write_mini_nuscenes
from tests.pipelines.test_precompute import options_for


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data set, store with thumbnails, store without."""
    root = tmp_path_factory.mktemp("images")
    world = write_mini_nuscenes(root / "world")
    precompute(options_for(world, root / "with", thumbnails=40))
    precompute(options_for(world, root / "without"))
    return world, root / "with", root / "without"


@pytest.fixture
def broken(made, tmp_path):
    """The data set without the images of CAM_BACK, and with one of CAM_FRONT that is none; `whole` beside it."""
    world = Path(shutil.copytree(made[0], tmp_path / "world"))
    shutil.rmtree(world / "samples" / "CAM_BACK")
    sorted((world / "samples" / "CAM_FRONT").iterdir())[0].write_bytes(b"no image")
    return world


def widths(read, store):
    return [{camera.channel: image.shape[1] for camera, image in read(ref)} for ref in store.frames]


def test_what_cannot_be_read_is_a_thumbnail_or_left_out_and_told_once_a_camera(made, broken, capsys):
    with_thumbnails, without = Store.open(made[1]), Store.open(made[2])
    whole = widths(image_reader(with_thumbnails, made[0]), with_thumbnails)
    assert {width for frame in whole for width in frame.values()} == {128}
    found = widths(image_reader(with_thumbnails, broken), with_thumbnails)
    assert [len(frame) for frame in found] == [6] * 4
    assert [frame["CAM_BACK"] for frame in found] == [40] * 4
    assert sorted(frame["CAM_FRONT"] for frame in found) == [40, 128, 128, 128]
    assert {width for frame in found for name, width in frame.items() if name not in ("CAM_BACK", "CAM_FRONT")} == {128}
    told = capsys.readouterr().err
    assert told.count("CAM_BACK: the store's thumbnail is shown") == 1
    assert told.count("CAM_FRONT: the store's thumbnail is shown") == 1
    found = widths(image_reader(without, broken), without)
    assert sorted(len(frame) for frame in found) == [4, 5, 5, 5]
    assert "CAM_BACK: it is left out, as of others that cannot be read: no such image" in capsys.readouterr().err


def test_a_data_set_without_one_of_the_images_is_another_one(made, tmp_path):
    other = Path(shutil.copytree(made[0], tmp_path / "world"))
    shutil.rmtree(other / "samples")
    with pytest.raises(DatasetError, match=r"no such image, which the store was made of.*Give the folder that"):
        image_reader(Store.open(made[1]), other)


def test_only_what_is_said_of_a_file_is_no_reason_to_stop(made):
    store = Store.open(made[1])

    def read(camera):
        raise RuntimeError("a mistake in the program")

    with pytest.raises(RuntimeError, match="mistake"):
        Images(store, read).of(store.frames[0], store.cameras(store.frames[0]))


def test_pages_and_lists_are_written(made, broken, tmp_path):
    shown = write_html(ViewOptions(cache=made[1], dataset_root=broken), tmp_path / "v.html")
    assert shown.frames == 4
    store = Store.open(made[1])
    token = store.frames[0].token
    frame = store.read(store.frames[0])
    row = int(next(n for n, points in enumerate(frame.object_seen_points) if points))
    found = query(
        QueryOptions(
            cache=made[1],
            like=f"{token}:{row}",
            dataset_root=broken,
            html=tmp_path / "q.html",
            table=tmp_path / "q.json",
            index=tmp_path / "index",
            min_points=1,
        )
    )
    assert found.best
    assert (tmp_path / "q.json").exists()
    assert (tmp_path / "q.html").exists()
    catalogue = open_catalogue(ViewOptions(cache=made[1]), broken)
    assert len(catalogue.pictures(catalogue.frames[0])) == 6
