"""Classes shown instead of named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from driveworld.demo_clip.evaluation import class_windows, world_pictures
from ovps import clip as encoders
from ovps.clip.pictures import add_pictures, embed_pictures, parse_pictures, pictures_in, read_picture
from ovps.clip.protocol import Encoder
from ovps.clip.text import build_vocabulary
from ovps.entries import parse_entries
from ovps.errors import ConfigError, VocabularyError, WeightsError
from ovps.taxonomy import load_taxonomy
from ovps.vocabulary import load_vocabulary
from pipelines.options import VocabularyOptions
from pipelines.vocabulary import build
from tests.helpers.synthetic_store import write_synthetic_store

NAMED = parse_entries("car, road:stuff")


@pytest.fixture(scope="module")
def demo() -> Encoder:
    return encoders.load("demo")


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "photos" / "scooters"
    folder.mkdir(parents=True)
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (40 + number, 60, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


@pytest.mark.slow
def test_pictures_of_the_drive_world_name_their_class(demo, tmp_path):
    """Crops of one half of a street's objects find the class of the other half's, without a word."""
    taxonomy, rng = load_taxonomy("nuscenes"), np.random.default_rng(0)
    crops: dict[int, list[np.ndarray]] = {}
    for picture, class_ids in world_pictures(2, times=(0.0, 4.0)):
        for class_id, (x, y, side) in class_windows(picture, class_ids, taxonomy, rng):
            crops.setdefault(class_id, []).append(picture.rgb[y : y + side, x : x + side])
    crops = {class_id: found[:12] for class_id, found in crops.items() if len(found) > 1}
    assert len(crops) > 9
    for class_id, found in crops.items():
        folder = tmp_path / str(class_id)
        folder.mkdir()
        for number, crop in enumerate(found[::2]):
            Image.fromarray(crop).save(folder / f"{number}.png")
    shown = [parse_pictures(f"{taxonomy.by_id[c].name}={tmp_path / str(c)}") for c in crops]
    vocabulary = add_pictures(demo, build_vocabulary(demo, ()), shown)
    assert vocabulary.names == tuple(taxonomy.by_id[c].name for c in crops)
    right = [
        (demo.embed_images(found[1::2]) @ vocabulary.embeddings.T).argmax(1) == row
        for row, found in enumerate(crops.values())
    ]
    assert np.mean([r.mean() for r in right]) > 0.5  # by chance 1 / len(crops)


def test_a_folder_is_the_normalised_mean_of_its_images(demo, folder):
    files = pictures_in(folder)
    images = [read_picture(file) for file in files]
    assert [image.shape for image in images] == [(40, 60, 3), (41, 60, 3), (42, 60, 3)]
    mean = sum(demo.embed_images([image])[0] for image in images)
    np.testing.assert_allclose(embed_pictures(demo, files), mean / np.linalg.norm(mean), atol=1e-5)


def test_few_pictures_are_in_memory_at_a_time(demo, folder, monkeypatch, capsys):
    held = []
    embed = demo.embed_images
    monkeypatch.setattr(type(demo), "embed_images", lambda self, images: held.append(len(images)) or embed(images))
    many = pictures_in(folder) * 9
    many_at_once = embed_pictures(demo, many)
    assert held == [16, 11]
    assert "images: 27 of 27 pictures" in capsys.readouterr().err
    np.testing.assert_allclose(many_at_once, embed_pictures(demo, pictures_in(folder)), atol=1e-5)


def test_images_stand_beside_text_in_the_file(folder, tmp_path):
    asked = {"names": "car, road:stuff", "out": tmp_path / "v.safetensors", "encoder": "demo"}
    shown = (f"scooter={folder}", f"CAR={folder}", f"grass:stuff={folder}")
    summary = build(VocabularyOptions(**asked, images=shown))
    read = load_vocabulary(tmp_path / "v.safetensors")
    assert (summary.classes, summary.embeddings) == (4, 5)
    assert [(e.name, e.kind) for e in read.entries] == [
        *(("car", "thing"), ("road", "stuff"), ("scooter", "thing"), ("grass", "stuff"))
    ]
    assert read.entries[0].synonyms == ("car", "images of scooters")
    assert read.class_index.tolist() == [0, 0, 1, 2, 3]
    np.testing.assert_array_equal(read.embeddings[1], read.embeddings[3])  # the same folder
    text_only = build(VocabularyOptions(**asked | {"out": tmp_path / "t"}))
    np.testing.assert_array_equal(load_vocabulary(text_only.file).embeddings, read.embeddings[[0, 2]])


def test_the_same_pictures_under_two_names_are_warned_of(folder, tmp_path):
    """Copied under other names, they are read in another order."""
    copies, other = tmp_path / "copies", tmp_path / "other"
    copies.mkdir()
    other.mkdir()
    for number in range(3):
        shutil.copy(folder / f"{number}.png", copies / f"{'bca'[number]}.png")
    shutil.copy(folder / "0.png", other)
    shown = (f"scooter={folder}", f"moped={copies}", f"bike={other}", f"Car={copies}")
    options = {"names": "car", "encoder": "demo", "images": shown}
    (warning,) = build(VocabularyOptions(out=tmp_path / "v", **options)).warnings
    assert warning.startswith(
        "car (as 'images of copies') and scooter (as 'images of scooters')"
        " and moped (as 'images of copies') have the same"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scooter", "no folder"),
        ("a, b=x", "more than one name"),
        ("scooter=nowhere", "no such folder"),
        ("scooter=~nobody-of-this-name/x", "no such folder"),
    ],
)
def test_what_shows_nothing_is_refused(demo, text, words):
    with pytest.raises(VocabularyError, match=words):
        add_pictures(demo, build_vocabulary(demo, NAMED), [parse_pictures(text)])


def test_files_that_are_no_images_and_another_kind_are_refused(demo, folder):
    vocabulary = build_vocabulary(demo, NAMED)
    with pytest.raises(VocabularyError, match="road is stuff, not thing"):
        add_pictures(demo, vocabulary, [parse_pictures(f"road:thing={folder}")])
    (folder / "notes.txt").write_text("no image")
    with pytest.raises(VocabularyError, match=r"not an image.*notes\.txt.*leave it out"):
        add_pictures(demo, vocabulary, [parse_pictures(f"scooter={folder}")])


def test_neither_names_nor_images(tmp_path):
    with pytest.raises(VocabularyError, match="--names"):
        build(VocabularyOptions(out=tmp_path / "v", encoder="demo"))


def test_the_encoder_is_that_of_the_cache_and_its_weights_are_checked(tmp_path, monkeypatch):
    random = encoders.load("demo", "random")
    known = {"encoder": "demo", "weights_sha256": random.weights.sha256, "weights_random": True}
    store = write_synthetic_store(tmp_path / "zarr", frames=1, points=40, subsets=("train",), **known)
    monkeypatch.chdir(tmp_path)  # ./zarr is taken unasked
    asked = {"names": "car", "out": tmp_path / "v"}
    assert build(VocabularyOptions(**asked)).weights_sha256 == random.weights.sha256
    assert build(VocabularyOptions(**asked, cache=store)).weights_random
    other = build(VocabularyOptions(**asked, encoder="demo"))  # told otherwise: the shipped weights
    assert other.weights_sha256 != random.weights.sha256
    weights = str(Path(encoders.__file__).parent / "demo" / "demo.safetensors")
    with pytest.raises(WeightsError, match=r"the cache was made with .*--weights"):
        build(VocabularyOptions(**asked, weights=weights))


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
def test_what_is_transparent_is_white(mode, tmp_path):
    """Whatever colours lie behind it; what shines through does in part."""
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    colours[..., 3] = np.repeat([0, 255, 0, 255], 2)
    image = Image.fromarray(colours)
    if mode == "P":
        image = image.convert("RGB").quantize(8)
        image.save(tmp_path / "cut-out.png", transparency=3)
        hidden = np.asarray(image) == 3
    else:
        image.convert(mode).save(tmp_path / "cut-out.png")
        hidden = colours[..., 3] == 0
    (read,) = map(read_picture, pictures_in(tmp_path))
    assert 0 < hidden.sum() < hidden.size
    assert (read[hidden] == 255).all()
    shown = image.convert("L").convert("RGB") if mode == "LA" else image.convert("RGB")
    np.testing.assert_array_equal(read[~hidden], np.asarray(shown)[~hidden])


def test_pictures_without_one_reading_are_refused(tmp_path):
    """As those of cameras are."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    image = Image.fromarray(noise)
    image.save(tmp_path / "a.jpg")
    raw = (tmp_path / "a.jpg").read_bytes()
    read_picture(tmp_path / "a.jpg")
    for write, says in (
        (lambda p: p.write_bytes(raw[: len(raw) // 2] + bytes(len(raw) // 2)), "ends in zeros: it was not copied"),
        (lambda p: image.convert("CMYK").save(p), "has the colours CMYK, expected grey or RGB"),
        (lambda p: image.save(p, "GIF", save_all=True, append_images=[image.rotate(90)]), "it holds 2 pictures"),
    ):
        write(tmp_path / "a.jpg")
        with pytest.raises(VocabularyError, match=rf"not an image: .*{says}.*a\.jpg"):
            read_picture(tmp_path / "a.jpg")


def test_a_deep_picture_is_refused_not_white(tmp_path):
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(VocabularyError, match=r"more than 8 bits.*deep\.png"):
        read_picture(tmp_path / "deep.png")


def test_a_folder_of_images_is_named_once_and_gets_no_vocabulary(folder, tmp_path):
    options = {"encoder": "demo", "images": (f"scooter={folder}", f"Scooter={folder}/")}
    with pytest.raises(ConfigError, match="named twice"):
        build(VocabularyOptions(out=tmp_path / "v.safetensors", **options))
    with pytest.raises(ConfigError, match="among images"):
        build(VocabularyOptions(encoder="demo", images=(f"scooter={folder}",), out=folder / "v.safetensors"))
