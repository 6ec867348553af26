"""Every variant of every class can be made, stands on the ground and is finite; the two families share none."""

from __future__ import annotations

import numpy as np
import pytest

from driveworld.assets import VARIANTS, make_asset
from driveworld.raw_labels import STUFF, THINGS
from ovps.errors import ConfigError

CASES = [(style, name, key) for style, classes in VARIANTS.items() for name in classes for key in classes[name]]


@pytest.mark.parametrize(("style", "class_name", "variant"), CASES)
def test_variant_is_a_sound_mesh(style: str, class_name: str, variant: str) -> None:
    asset = make_asset(class_name, np.random.default_rng(3), style, variant)
    mesh = asset.mesh
    assert np.isfinite(mesh.vertices).all()
    assert mesh.faces.max() < len(mesh.vertices)
    assert len(mesh.color) == len(mesh.reflectance) == len(mesh.texture) == len(mesh.faces)
    assert ((mesh.color >= 0) & (mesh.color <= 1)).all()
    assert ((mesh.reflectance > 0) & (mesh.reflectance <= 1)).all()
    if class_name in THINGS:
        assert abs(mesh.bounds[0, 2]) < 0.1


def test_families_cover_the_same_classes_with_other_constructions() -> None:
    world, demo = VARIANTS["world"], VARIANTS["demo_clip"]
    assert set(world) == set(demo) == set(THINGS) | {"vegetation", "manmade"} <= set(THINGS) | set(STUFF)
    for name in world:
        assert not set(world[name].values()) & set(demo[name].values())


def test_unknown_names_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="no asset of class"):
        make_asset("submarine", rng)
    with pytest.raises(ConfigError, match="variant"):
        make_asset("car", rng, "world", "coupe")
