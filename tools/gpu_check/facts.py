"""Stage a: what this machine is, and what its device does at most."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING

import torch

from tools.gpu_check.record import Recorder, read_lines
from tools.gpu_check.setting import Setting

if TYPE_CHECKING:
    from tools.gpu_check.predict import Ceilings

PRECISIONS = ("bf16", "tf32", "fp32")
COPY, LAUNCH = "copy bandwidth", "starting an operation"
PACKAGES = (
    *("torchvision", "numpy", "scipy", "zarr", "pyarrow", "pydantic", "dask", "timm", "open_clip_torch"),
    *("nuscenes-devkit", "embreex", "matplotlib", "MinkowskiEngine", "triton"),
)


def run(setting: Setting, recorder: Recorder) -> None:
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    recorder.add("python", note=f"{platform.python_version()}, {setting.cores} cores, {_memory_gib():.0f} GiB")
    cuda, nvcc = torch.version.cuda, _output("nvcc", "--version").rsplit("\n", 1)[-1]
    recorder.add("torch", note=f"{torch.__version__}, CUDA {cuda}, cuDNN {torch.backends.cudnn.version()}; nvcc {nvcc}")
    recorder.add("packages", note=versions)
    absent = [name for name in ("zarr", "nuscenes.nuscenes", "embreex", "open_clip", "distributed") if not _there(name)]
    recorder.add("imports", ok=not absent, note=f"missing or broken: {', '.join(absent)}" if absent else "all")
    if setting.on_gpu:
        found = torch.cuda.get_device_properties(0)
        recorder.add(
            "device",
            found.total_memory / 2**30,
            "GiB",
            note=f"{found.name}, sm_{found.major}{found.minor}, {found.multi_processor_count} processors; driver "
            + _output("nvidia-smi", "--query-gpu=driver_version,clocks.max.sm,power.limit", "--format=csv,noheader"),
        )
    else:
        recorder.add("device", note=f"CPU, {torch.get_num_threads()} threads; figures at these sizes mean nothing")
    with recorder.guarded(COPY):
        recorder.add(COPY, copy_bandwidth(setting) / 1e9, "GB/s", note="within the device, read and written")
    with recorder.guarded("to the device"):
        for pinned in (False, True) if setting.on_gpu else (False,):
            rate = to_device(setting, pinned) / 1e9
            recorder.add(f"to the device, {'pinned' if pinned else 'pageable'}", rate, "GB/s")
    for precision in PRECISIONS:
        with recorder.guarded(f"matrix product {precision}"):
            recorder.add(f"matrix product {precision}", matrix_rate(setting, precision) / 1e12, "TFLOP/s")
    with recorder.guarded(LAUNCH):
        recorder.add(LAUNCH, 1e6 * launch_seconds(setting), "us")
    with recorder.guarded("asking for a number"):
        recorder.add("asking for a number", 1e6 * wait_seconds(setting), "us", note="the host waits for the device")


def ceilings(setting: Setting) -> Ceilings:
    """Those that stage a wrote to the same folder, else measured now."""
    from tools.gpu_check.predict import Ceilings  # it imports MinkowskiEngine, which stage a does without

    known = {line.name: line.value for line in read_lines(setting.out) if line.stage == "a" and line.value}
    flops = {p: 1e12 * (known.get(f"matrix product {p}") or matrix_rate(setting, p) / 1e12) for p in PRECISIONS}
    copy = known.get(COPY) or copy_bandwidth(setting) / 1e9
    launch = known.get(LAUNCH) or 1e6 * launch_seconds(setting)
    return Ceilings(flops, 1e9 * copy, 1e-6 * launch)


def copy_bandwidth(setting: Setting) -> float:
    """Bytes per second, read and written."""
    size = 2**22 if setting.tiny else 2**31
    source = torch.zeros(size, dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    return 2 * size / setting.seconds(lambda: target.copy_(source), rounds=10)


def to_device(setting: Setting, pinned: bool) -> float:
    """Bytes per second from the host's memory."""
    source = torch.zeros(2**22 if setting.tiny else 2**28, dtype=torch.uint8, pin_memory=pinned)
    target = torch.empty_like(source, device=setting.device)
    return len(source) / setting.seconds(lambda: target.copy_(source, non_blocking=pinned))


def matrix_rate(setting: Setting, precision: str) -> float:
    """FLOP/s of the product of two large square matrices."""
    side = 256 if setting.tiny else 8192
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=setting.device, dtype=kind) for _ in range(2))
    with tf32(precision == "tf32"):
        return 2 * side**3 / setting.seconds(lambda: a @ b, rounds=10)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Inside, float32 products and convolutions may or may not use TF32, whatever held before."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = allowed
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


def launch_seconds(setting: Setting) -> float:
    """Of one small operation in a row of many."""
    x, many = torch.zeros(1, device=setting.device), 200 if setting.tiny else 2000

    def row() -> None:
        for _ in range(many):
            x.add_(1)

    return setting.seconds(row) / many


def wait_seconds(setting: Setting) -> float:
    """Of a small operation whose result the host reads."""
    x = torch.zeros((), device=setting.device)
    return setting.seconds(lambda: x.add_(1).item(), rounds=50)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken build may raise anything
        print(f"{module}: {error!r}", file=sys.stderr)
        return False
    return True


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _output(program: str, *arguments: str) -> str:
    """What a program says, or that there is none."""
    if shutil.which(program) is None:
        return "none"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.strip() or f"exit code {done.returncode}"
