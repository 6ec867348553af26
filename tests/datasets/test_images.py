"""Every picture becomes its right 8-bit RGB pixels, or is refused with the reason and a remedy that works."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ovps.datasets.nuscenes import DATASET as nuscenes
from ovps.errors import FrameError
from tests.helpers.cameras import make_camera

WIDTH, HEIGHT = 64, 40


@pytest.fixture
def camera(tmp_path):
    return make_camera(width=WIDTH, height=HEIGHT, focal=50.0, image_path=str(tmp_path / "image"))


@pytest.fixture
def picture():
    """RGB uint8 that no codec but a lossless one keeps."""
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def save(camera, image, kind="PNG", **options):
    image.save(camera.image_path, kind, **options)


def refused(camera):
    """The message; the same file read again after the remedy is the business of the test."""
    with pytest.raises(FrameError) as caught:
        nuscenes.image(camera)
    assert caught.value.path == camera.image_path
    assert camera.channel in caught.value.message
    assert caught.value.remedy
    assert "--" not in caught.value.remedy  # whose options, it cannot know
    return str(caught.value)


# what has one right reading


def test_rgb_is_read_as_it_is(camera, picture):
    save(camera, Image.fromarray(picture))
    np.testing.assert_array_equal(nuscenes.image(camera), picture)


def test_grey_becomes_three_equal_channels(camera, picture):
    grey = picture[..., 0]
    save(camera, Image.fromarray(grey))
    np.testing.assert_array_equal(nuscenes.image(camera), np.stack([grey] * 3, axis=-1))


def test_one_bit_becomes_black_and_white(camera, picture):
    save(camera, Image.fromarray(picture[..., 0] > 127))
    np.testing.assert_array_equal(nuscenes.image(camera)[..., 1], np.where(picture[..., 0] > 127, 255, 0))


def test_a_palette_becomes_its_colours(camera, picture):
    few = picture & 0b11000000
    image = Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    save(camera, image)
    np.testing.assert_array_equal(nuscenes.image(camera), np.asarray(image.convert("RGB")))


def test_opaque_alpha_is_left_out(camera, picture):
    save(camera, Image.fromarray(np.dstack([picture, np.full((HEIGHT, WIDTH), 255, np.uint8)])))
    np.testing.assert_array_equal(nuscenes.image(camera), picture)


def test_sixteen_bits_a_channel_of_rgb_become_the_upper_eight(camera, picture):
    """PIL reads such a PNG so; a writer of its own, because PIL cannot make one."""
    deep = (picture.astype(np.uint16) * 256 + 200).astype(">u2")
    Path(camera.image_path).write_bytes(_png16(deep))
    np.testing.assert_array_equal(nuscenes.image(camera), picture)


def test_a_jpeg_with_a_preview_behind_it(camera):
    flat = Image.new("RGB", (WIDTH, HEIGHT), (10, 200, 30))
    save(camera, flat, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert np.abs(nuscenes.image(camera).astype(int) - (10, 200, 30)).max() < 4


# what has none


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_deep_grey_is_refused_not_white(camera, picture, dtype):
    deep = picture[..., 0].astype(dtype) * 256
    save(camera, Image.fromarray(deep), "PNG" if dtype == np.uint16 else "TIFF")
    assert "more than 8 bits" in refused(camera)
    save(camera, Image.fromarray((deep // 256).astype(np.uint8)))  # the remedy
    np.testing.assert_array_equal(nuscenes.image(camera)[..., 0], picture[..., 0])


def test_colours_for_print_are_refused(camera, picture):
    save(camera, Image.fromarray(picture).convert("CMYK"), "TIFF")
    assert "the colours CMYK" in refused(camera)
    save(camera, Image.open(camera.image_path).convert("RGB"))
    nuscenes.image(camera)


def test_transparent_pixels_are_refused(camera, picture):
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[3, 5] = 254
    save(camera, Image.fromarray(np.dstack([picture, alpha])))
    assert "transparent in places" in refused(camera)
    save(camera, Image.fromarray(picture))
    np.testing.assert_array_equal(nuscenes.image(camera), picture)
    palette = Image.fromarray(picture).convert("P")
    save(camera, palette, transparency=int(np.asarray(palette)[0, 0]))
    assert "transparent in places" in refused(camera)


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_a_picture_to_be_turned_is_refused(camera, picture, orientation):
    """A viewer shows it turned, and the calibration may have been made with either."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(camera, Image.fromarray(picture), "JPEG", exif=exif, quality=95)
    assert f"orientation {orientation}" in refused(camera)
    exif[0x0112] = 1
    save(camera, Image.fromarray(picture), "JPEG", exif=exif, quality=95)
    assert nuscenes.image(camera).shape == (HEIGHT, WIDTH, 3)


def test_an_animation_is_refused(camera):
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("red", "blue")]
    save(camera, frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert "holds 2 pictures" in refused(camera)


def test_another_size_is_refused_before_it_is_decoded(camera, picture, monkeypatch):
    """A few kilobytes can hold gigabytes of pixels."""
    save(camera, Image.new("L", (8_000, 4_000)), compress_level=9)
    assert Path(camera.image_path).stat().st_size < 100_000
    monkeypatch.setattr(Image.Image, "convert", None)  # would decode
    assert f"8000x4000 pixels, its calibration is for {WIDTH}x{HEIGHT}" in refused(camera)
    monkeypatch.undo()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    assert "too large" in refused(camera)
    save(camera, Image.fromarray(picture))
    np.testing.assert_array_equal(nuscenes.image(camera), picture)


# what is damaged


def test_missing(camera):
    assert "does not exist" in refused(camera)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.9, 0.99])
def test_cut_off(camera, picture, kind, share):
    save(camera, Image.fromarray(picture), kind)
    content = Path(camera.image_path).read_bytes()
    Path(camera.image_path).write_bytes(content[: int(len(content) * share)])
    refused(camera)
    Path(camera.image_path).write_bytes(content)
    nuscenes.image(camera)


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_a_jpeg_whose_rest_was_never_written(camera, picture, share):
    """The decoder takes zeros for grey and says nothing. Zeros after the end are padding."""
    save(camera, Image.fromarray(picture), "JPEG")
    content = Path(camera.image_path).read_bytes()
    kept = int(len(content) * share)
    Path(camera.image_path).write_bytes(content[:kept] + bytes(len(content) - kept))
    assert "was not copied to its end" in refused(camera)
    Path(camera.image_path).write_bytes(content + bytes(512))
    nuscenes.image(camera)


def test_a_flipped_byte_in_a_png(camera, picture):
    save(camera, Image.fromarray(picture))
    content = bytearray(Path(camera.image_path).read_bytes())
    content[len(content) // 2] ^= 0xFF
    Path(camera.image_path).write_bytes(content)
    refused(camera)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's own
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "WEBP"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_any_damage_is_refused_or_read_in_shape(camera, picture, kind, seed):
    """Headers, EXIF and pixels: nothing that a decoder raises gets past."""
    rng = np.random.default_rng(seed)
    exif = Image.Exif()
    exif[0x010E] = "a street"
    save(camera, Image.fromarray(picture), kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
    content = np.frombuffer(Path(camera.image_path).read_bytes(), np.uint8).copy()
    hit = rng.integers(0, rng.choice([64, 300, len(content)]), rng.integers(1, 9))
    content[hit] = rng.integers(0, 256, len(hit))
    Path(camera.image_path).write_bytes(content[: rng.integers(len(content) // 2, 2 * len(content))].tobytes())
    with suppress(FrameError):
        assert nuscenes.image(camera).shape == (HEIGHT, WIDTH, 3)


def _png16(pixels):
    """(H, W, 3) big-endian uint16 as a PNG of 16 bits a channel."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
