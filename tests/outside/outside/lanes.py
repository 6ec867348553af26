"""An engine for sparse convolutions: plain torch under another name, which counts what it is asked for."""

from __future__ import annotations

from ovps.model.sparse.gather import Gather


class Lanes(Gather):
    name = "lanes"
    asked = 0

    def voxels(self, coords, features):
        type(self).asked += 1
        return super().voxels(coords, features)


BACKEND = Lanes()
