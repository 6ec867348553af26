"""Features of points that other programs wrote: what is taken as one, and what is refused by its true cause."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovps.errors import FrameError
from pipelines.stores.point_features import read_features, same_share

POINTS, DIM, SEEN = 20, 8, 9
MASK = np.isin(np.arange(POINTS), np.random.default_rng(1).permutation(POINTS)[:SEEN])
FEAT = np.random.default_rng(2).normal(size=(SEEN, DIM)).astype(np.float32)
WHOLE = np.zeros((POINTS, DIM), np.float32)
WHOLE[MASK] = FEAT
FORMS = ("pt", "npz", "npy")


def written(folder: Path, form: str, content: Mapping[str, object]) -> Path:
    path = folder / f"frame.{form}"
    if form == "pt":
        torch.save({k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in content.items()}, path)
    elif form == "npz":
        np.savez_compressed(path, **content)
    else:
        np.save(path, content["feat"])
    return path


def read(path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_features(path, POINTS, DIM, "token-1")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("form", "layout"), [("pt", "masked"), ("npz", "masked"), *product(FORMS, ("zeros", "nan"))])
def test_each_layout_in_each_form_gives_the_same(tmp_path, form, layout, dtype):
    absent = np.where(MASK[:, None], WHOLE, np.nan if layout == "nan" else 0)
    content = {"feat": FEAT.astype(dtype), "mask_full": MASK} if layout == "masked" else {"feat": absent.astype(dtype)}
    features, seen, _ = read(written(tmp_path, form, content))
    assert np.array_equal(seen, MASK)
    assert features.dtype == np.float32
    assert np.array_equal(features, FEAT.astype(dtype).astype(np.float32))


def test_tensors_as_a_network_leaves_them(tmp_path):
    """With a gradient, and in a type that numpy does not know."""
    tensor = torch.nn.Parameter(torch.tensor(FEAT).bfloat16())
    torch.save({"feat": tensor, "mask_full": torch.tensor(MASK)}, tmp_path / "frame.pt")
    assert np.array_equal(read(tmp_path / "frame.pt").features, tensor.detach().float().numpy())


def test_whole_numbers_are_features_and_a_mask_of_0_and_1_is_one(tmp_path):
    """Features that were quantised: -128 has no absolute value in int8."""
    whole = np.clip(FEAT * 100, -128, 127).astype(np.int8)
    whole[:, 0] = -128
    features, seen, _ = read(written(tmp_path, "pt", {"feat": whole, "mask_full": MASK.astype(np.uint8)}))
    assert np.array_equal(features, whole.astype(np.float32))
    assert seen.dtype == np.bool_
    assert np.array_equal(seen, MASK)


def changed(array: np.ndarray, row: int, value: object, column: int | slice = slice(None)) -> np.ndarray:
    array = array.copy()
    array[row, column] = value
    return array


def case(form: str, name: str, content: Mapping[str, object], said: str):
    return pytest.param(form, content, said, id=f"{form} {name}")


FIRST = int(np.flatnonzero(MASK)[3])
MASKED: dict[str, tuple[dict[str, object], str]] = {
    "all False": ({"feat": FEAT[:0], "mask_full": MASK & False}, r"none of 20 points has a feature.*calibration"),
    "NaN": ({"feat": changed(FEAT, 3, np.nan, 2)}, rf"1 of 9 features hold NaN or infinity, .* point {FIRST} "),
    "infinity": ({"feat": changed(FEAT, 3, -np.inf, 2)}, rf"NaN or infinity, the first that of point {FIRST} "),
    "zeros": ({"feat": changed(FEAT, 3, 0)}, rf"1 of 9 .* that of point {FIRST}: its largest value is 0, expected 6"),
    "1e-30": ({"feat": FEAT * np.float32(1e-30)}, r"9 of 9 features are too short or too long .*e-3\d, expected"),
    "huge": ({"feat": np.clip(FEAT, -1, 1) * np.float32(1e38)}, r"too short or too long .*e\+3\d, expected 6.1e-05 to"),
    "beyond float32": ({"feat": FEAT.astype(float) * 1e300}, r"too short or too long .*e\+300"),
    "complex": ({"feat": FEAT.astype(np.complex64)}, "`feat` is complex64, expected real numbers"),
    "bool": ({"feat": FEAT > 0}, "`feat` is bool, expected real numbers"),
    "3-D": ({"feat": FEAT[None]}, r"`feat` is of shape \(1, 9, 8\), expected two dimensions"),
    "1-D": ({"feat": FEAT[0]}, r"`feat` is of shape \(8,\), expected two dimensions"),
    "channels": ({"feat": FEAT[:, :5]}, r"features have 5 channels, text embeddings of the encoder 8.*--encoder"),
    "a row for each point": ({"feat": WHOLE}, r"20 rows, and `mask_full` is True for 9 points.*feat\[mask_full\]"),
    "too few rows": ({"feat": FEAT[1:]}, r"8 rows, and `mask_full` is True for 9 points.*in their order"),
    "another sweep": ({"mask_full": MASK[1:]}, r"`mask_full` is of shape \(19,\), the sweep has 20 points.*key frame"),
    "column mask": ({"mask_full": MASK[:, None]}, r"`mask_full` is of shape \(20, 1\)"),
    "shares": ({"mask_full": MASK * 0.5}, "`mask_full` is no mask: float64"),
    "numbers of points": ({"mask_full": np.flatnonzero(MASK)}, "`mask_full` is no mask: int64"),
}
ALONE: dict[str, tuple[np.ndarray, str]] = {
    "all zero": (WHOLE * 0, "none of 20 points has a feature"),
    "all NaN": (WHOLE * np.nan, "none of 20 points has a feature"),
    "partly NaN": (changed(WHOLE, FIRST, np.nan, 2), rf"1 of 9 features hold NaN or infinity, .* point {FIRST} "),
    "infinity": (changed(WHOLE, FIRST, np.inf), rf"1 of 9 features hold NaN or infinity, .* point {FIRST} "),
    "1e-30": (changed(WHOLE, FIRST, 1e-30), rf"1 of 9 features .* point {FIRST}: its largest value is 1e-30"),
    "huge": (changed(WHOLE, FIRST, 1e30), rf"1 of 9 features .* point {FIRST}: its largest value is 1e\+30"),
    "complex": (WHOLE.astype(complex), "`feat` is complex128"),
    "bool": (WHOLE > 0, "`feat` is bool"),
    "text": (WHOLE.astype(str), "`feat` is <U"),
    "3-D": (WHOLE.reshape(POINTS, 2, 4), "expected two dimensions"),
    "0-D": (np.array(1, np.float32), "expected two dimensions"),
    "rows": (FEAT, r"`feat` has 9 rows, the sweep has 20 points.*a row for some alone needs `mask_full` beside it"),
    "turned": (WHOLE.T, r"`feat` has 8 rows, the sweep has 20 points"),
}
UNNAMED = r"nothing is called `feat`, there is features, mask_full.*A file holds"
LISTED: dict[str, tuple[dict[str, object], str]] = {
    "a list": ({"feat": FEAT.tolist(), "mask_full": MASK}, "`feat` is a list"),
    "a list for a mask": ({"feat": FEAT, "mask_full": MASK.tolist()}, "`mask_full` is a list"),
    "nothing": ({}, "nothing is called `feat`, there is nothing"),
}
CASES = [
    *(case(form, name, {"feat": FEAT, "mask_full": MASK} | content, said)
      for form in ("pt", "npz") for name, (content, said) in MASKED.items()),
    *(case(form, name, {"feat": feat}, said)
      for form in FORMS for name, (feat, said) in ALONE.items() if (form, name) != ("pt", "text")),
    *(case(form, "other names", {"features": FEAT, "mask_full": MASK}, UNNAMED) for form in ("pt", "npz")),
    *(case("pt", name, *about) for name, about in LISTED.items()),
]  # fmt: skip


@pytest.mark.parametrize(("form", "content", "said"), CASES)
def test_what_is_no_feature_is_refused_by_its_cause(tmp_path, form, content, said):
    path = written(tmp_path, form, content)
    with pytest.raises(FrameError, match=said) as error:
        read(path)
    assert (error.value.path, error.value.frame) == (str(path), "token-1")
    assert error.value.remedy


def test_a_file_is_what_it_holds_and_not_what_it_is_called(tmp_path):
    """An array called .npz, an archive called .npy, and a tensor alone."""
    np.save(tmp_path / "frame.npy", WHOLE)
    assert np.array_equal(read((tmp_path / "frame.npy").rename(tmp_path / "a.npz")).seen, MASK)
    np.savez(tmp_path / "frame.npz", feat=FEAT, mask_full=MASK)
    assert np.array_equal(read((tmp_path / "frame.npz").rename(tmp_path / "a.npy")).features, FEAT)
    torch.save(torch.tensor(WHOLE), tmp_path / "frame.pt")
    with pytest.raises(FrameError, match="nothing is called `feat`, there is a Tensor"):
        read(tmp_path / "frame.pt")


@pytest.mark.parametrize(
    ("largest", "taken"), [(65504.0, True), (6.2e-5, True), (1.0, True), (65536.0, False), (6e-5, False)]
)
def test_what_is_taken_keeps_its_direction_in_float16(tmp_path, largest, taken):
    scaled = FEAT / np.abs(FEAT).max(axis=1, keepdims=True) * np.float32(largest)
    path = written(tmp_path, "npz", {"feat": scaled, "mask_full": MASK})
    if not taken:
        with pytest.raises(FrameError, match="too short or too long"):
            read(path)
        return
    half = read(path).features.astype(np.float16).astype(float)
    cosine = (half * FEAT).sum(1) / np.linalg.norm(half, axis=1) / np.linalg.norm(FEAT, axis=1)
    assert cosine.min() > 0.99999


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(form=st.sampled_from(FORMS), data=st.data())
def test_damaged_bytes_are_an_error_of_the_frame_or_change_numbers_alone(tmp_path, form, data):
    content = {"feat": FEAT, "mask_full": MASK} if form != "npy" else {"feat": WHOLE}
    path = written(tmp_path, form, content)
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[at] ^= data.draw(st.integers(1, 255))
    else:
        del whole[at:]
    path.write_bytes(whole)
    with suppress(FrameError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a header
        features, seen, _ = read_features(path, POINTS, DIM, "token-1")
        assert features.shape == (seen.sum(), DIM)
        assert np.isfinite(features).all()
        assert np.abs(features).max(axis=1).min() > 0


@given(st.integers(0, 2**32 - 1), st.integers(2, 64), st.floats(0.15, 1), st.sampled_from([np.float16, np.float32]))
@settings(deadline=None, max_examples=30)
def test_the_share_of_one_direction_is_that_whatever_its_lengths(seed, channels, share, dtype):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(400, channels)) + 0.5
    same = rng.random(400) < share
    features[same] = rng.normal(size=channels) * rng.uniform(0.5, 2, (same.sum(), 1))
    features = features.astype(dtype)
    unit = features.astype(float) / np.linalg.norm(features.astype(float), axis=1, keepdims=True)
    expected = (unit @ unit.T > 0.9999).mean(axis=0).max()  # each with each
    assert same_share(features) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("points", "alike", "taken"), [(99, 99, True), (100, 90, True), (100, 91, False), (100, 100, False)]
)
def test_features_that_are_all_one_are_none(tmp_path, points, alike, taken):
    feat = np.tile(FEAT[:1], (points, 1))
    feat[alike:] = FEAT[1]
    path = written(tmp_path, "npz", {"feat": feat})
    if taken:
        assert len(read_features(path, points, DIM, "token-1").features) == points
    else:
        with pytest.raises(FrameError, match=f"{alike} % of 100 features are one and the same"):
            read_features(path, points, DIM, "token-1")
