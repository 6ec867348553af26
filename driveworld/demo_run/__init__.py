"""The demo run: a trained run of the drive world that ships with the package, so that a picture needs no training.

driveworld/demo_run/
  config.yaml, run.json, vocabulary.safetensors, statistics.safetensors    as in the folder of the run
  weights.safetensors    of its last checkpoint: kernels and matrices in float16, vectors as they were
  provenance.json        `Provenance`: where it comes from, and what the binary files have to be

`tools/demo_run.py` packs a run, `unpack` makes an ordinary one of it again.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from ovps.errors import CheckpointError, ConfigError, faults_of
from ovps.files import write_whole
from ovps.model import sparse
from ovps.shortage import faults
from ovps.training.checkpoint import save_checkpoint
from ovps.training.network import make_network
from ovps.training.run import architecture, load_run, origin
from ovps.training.run_files import CONFIG, INFO, LAST, STATISTICS, VOCABULARY, load_settings

WEIGHTS = "weights.safetensors"
PROVENANCE = "provenance.json"
AS_THEY_ARE = (CONFIG, INFO, VOCABULARY, STATISTICS)
HASHED = (WEIGHTS, VOCABULARY, STATISTICS)
_AGAIN = "Install the package again"


class Provenance(BaseModel, frozen=True, extra="forbid"):
    """The origin of the demo run.

    Attributes:
        run: name of its folder. commit: of the code that trained it. command: that made it.
        step: updates that the weights have seen.
        added_settings: settings that are younger than the run, with the values that mean what it did.
        sha256: of the binary files, by name.
        pq: of validation frames, in percent by group, as trained (`float32`) and as shipped (`float16`).
    """

    run: str
    commit: str
    command: str
    step: int
    added_settings: dict[str, float]
    sha256: dict[str, str]
    pq: dict[str, dict[str, float]]


def folder() -> Path:
    """The files that ship with the package."""
    return Path(str(resources.files(__name__)))


def provenance(shipped: Path | None = None) -> Provenance:
    """Read where the demo run comes from, and check that its files are what was shipped.

    Raises:
        CheckpointError: a file is missing or is not.
    """
    shipped = shipped or folder()
    path = shipped / PROVENANCE
    try:
        known = Provenance.model_validate_json(path.read_text(encoding="utf-8"))
        for name, sha256 in known.sha256.items():
            path = shipped / name
            if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
                raise CheckpointError("the demo run is not what was shipped", path=path, remedy=_AGAIN)
    except faults(OSError, UnicodeDecodeError, ValidationError) as error:
        raise CheckpointError(f"the demo run cannot be read: {faults_of(error)}", path=path, remedy=_AGAIN) from error
    return known


def pack(run: Path, out: Path) -> dict[str, str]:
    """Write all of a demo run but its provenance, from the folder of a run.

    Returns:
        SHA-256 of the binary files, by name.

    Raises:
        CheckpointError: no run, a damaged one, or weights that float16 cannot hold.
        StorageError: the disk refuses.
    """
    loaded = load_run(run)
    shrunk = {name: _half(tensor) for name, tensor in loaded.network.state_dict().items()}
    lost = [name for name, tensor in shrunk.items() if not tensor.isfinite().all()]
    if lost:
        raise CheckpointError(f"too large for float16: {', '.join(lost)}", path=run, remedy="Pack another run")
    content = {name: (run / name).read_bytes() for name in AS_THEY_ARE} | {WEIGHTS: save(shrunk)}
    for name, data in content.items():
        write_whole(out / name, data)
    return {name: hashlib.sha256(content[name]).hexdigest() for name in HASHED}


def unpack(run: Path, shipped: Path | None = None) -> Provenance:
    """Write the demo run as an ordinary one, weights in float32; the same again is written over it.

    Args:
        run: folder, made if missing.
        shipped: None: what came with the package.

    Raises:
        CheckpointError: a file of the package is missing or damaged, or this version of ovps cannot read it.
        ConfigError: the folder holds another run.
        StorageError: the disk refuses.
    """
    shipped = shipped or folder()
    known = provenance(shipped)
    config, info = load_settings(shipped)
    if (run / INFO).is_file() and (run / INFO).read_bytes() != (shipped / INFO).read_bytes():
        raise ConfigError("the folder holds another run", path=run, remedy="Choose another folder, or delete it")
    with torch.random.fork_rng(devices=[]):
        network = make_network(config, info, sparse.default())
    try:
        state = load((shipped / WEIGHTS).read_bytes())
        network.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in state.items()})
    except faults(SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"the demo run does not fit this version: {error}", path=shipped / WEIGHTS, remedy=_AGAIN
        ) from error
    for name in AS_THEY_ARE:
        write_whole(run / name, (shipped / name).read_bytes())
    fresh = torch.optim.AdamW(network.parameters())  # a run is a checkpoint, and a checkpoint has an optimiser
    save_checkpoint(run / LAST, architecture(config, info), origin(config, info), known.step, network, fresh)
    return known


def _half(tensor: torch.Tensor) -> torch.Tensor:
    """Kernels and matrices are all the bytes; scales and running variances of a norm are few, and have small values."""
    return tensor.half().contiguous() if tensor.is_floating_point() and tensor.ndim > 1 else tensor.contiguous()
