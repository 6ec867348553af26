"""Labels of a recording, and the taxonomy that says what they mean."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovps.datasets.folder.point_files import AGAIN, check_size
from ovps.datasets.near_names import refuse_other_case
from ovps.datasets.reading import read_bytes
from ovps.errors import ConfigError, DatasetError, FrameError, counted
from ovps.shortage import faults
from ovps.taxonomy import Taxonomy, load_taxonomy

TAXONOMY = "taxonomy.yaml"
WHOLE_NUMBERS = "Write one unsigned whole number a point, instance_divisor * class + instance, as .npy or .npz"
_BYTES = 2**28


def own_taxonomy(root: Path) -> Taxonomy | None:
    """Read the taxonomy of a recording; None if it has none.

    Raises:
        DatasetError: not a taxonomy, or one that names a submission format of a data set; or it is not called
            `taxonomy.yaml`, but the same in other upper and lower case.
    """
    path = Path(root) / TAXONOMY
    refuse_other_case(path.parent, [TAXONOMY])
    if not path.exists():
        return None
    try:
        taxonomy = load_taxonomy(str(path))
    except ConfigError as error:
        remedy = "Mend it (docs/taxonomies.md), or take it out of the recording: without labels none is needed"
        raise DatasetError(error.message, path=path, remedy=remedy) from error
    if taxonomy.submission is not None:
        raise DatasetError(
            "names the submission format of a data set", path=path, remedy="Leave `submission` out: plain arrays"
        )
    return taxonomy


def read_labels(path: str, token: str) -> NDArray[np.uint32]:
    """Read the labels (N,) uint32 of all points that the point file has.

    Raises:
        FrameError: missing, damaged, or no whole numbers of 32 bits.
    """
    raw = read_bytes("label file", path, token, AGAIN)
    try:
        content = np.load(BytesIO(raw), allow_pickle=False)
        if isinstance(content, np.lib.npyio.NpzFile):
            check_size(content.zip, _BYTES)
            if len(content.files) != 1:
                raise ValueError(f"it holds {counted(len(content.files), 'array')}, not one")
            (name,) = content.files
            content = content[name]
    except faults(Exception, most=_BYTES) as error:  # numpy and zipfile have no common base for damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FrameError(
            f"the label file cannot be read: {reason}", path=path, frame=token, remedy=WHOLE_NUMBERS
        ) from error
    if content.ndim != 1 or content.dtype.kind not in "iu" or (content.size and int(content.min()) < 0):
        raise FrameError(
            f"labels are {content.dtype} of shape {content.shape}, expected whole numbers (N,) of 0 and more",
            path=path,
            frame=token,
            remedy=WHOLE_NUMBERS,
        )
    if content.size and int(content.max()) >= 2**32:
        raise FrameError(f"a label of {content.max()}, 32 bits hold less", path=path, frame=token, remedy=WHOLE_NUMBERS)
    return content.astype(np.uint32)
