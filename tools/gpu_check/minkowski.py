"""A MinkowskiEngine that fits this torch and device: the one that is there, a wheel carried here, or a new one."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.gpu_check.record import Recorder
from tools.gpu_check.setting import ROOT, Setting, apart

TOLERANCE = 1e-4  # relative, of float32 sums in another order


def ensure(setting: Setting, recorder: Recorder) -> None:
    """Make `import MinkowskiEngine` give a build that fits, or raise RuntimeError."""
    wanted = local_version(on_gpu=setting.on_gpu)
    if fits(_installed(), wanted):
        return
    begin = time.monotonic()
    wheel = carried(setting.wheels, wanted)
    if wheel is None:
        wheel = _build(setting)
        recorder.add("MinkowskiEngine built", time.monotonic() - begin, "s", note=wheel.name)
        shutil.copy(wheel, setting.out)
    install = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--upgrade"]
    subprocess.run([*install, "--target", str(setting.site), str(wheel)], check=True, stdout=sys.stderr)
    importlib.invalidate_caches()
    if not fits(_installed(), wanted):
        raise RuntimeError(f"MinkowskiEngine {_installed()} is on the path before {setting.site}, {wanted} is wanted")
    recorder.add("MinkowskiEngine installed", time.monotonic() - begin, "s", note=wheel.name)


def local_version(on_gpu: bool) -> str:
    """What `tools/minkowski/build.sh` puts behind the version: `+pt2.11.0.cu130`; the CPU does with either build."""
    cuda = f"cu{(torch.version.cuda or '').replace('.', '')}" if on_gpu else ""
    return f"+pt{torch.__version__.partition('+')[0]}.{cuda}"


def fits(version: str | None, wanted: str) -> bool:
    return version is not None and wanted in version


def carried(wheels: Path, wanted: str) -> Path | None:
    """A wheel of this version and Python in a folder."""
    tag = f"-cp{sys.version_info[0]}{sys.version_info[1]}-"
    found = [w for w in sorted(wheels.glob("[mM]inkowski*.whl")) if wanted in w.name and tag in w.name]
    return found[0] if found else None


def _installed() -> str | None:
    try:
        return metadata.version("MinkowskiEngine")
    except metadata.PackageNotFoundError:
        return None


def _build(setting: Setting) -> Path:
    """With all cores, for the architecture of the device alone; the sdist may lie among the wheels."""
    built = setting.work / "minkowski"
    environment = dict(os.environ, PYTHON=sys.executable)
    if setting.on_gpu:
        major, minor = torch.cuda.get_device_capability()
        environment |= {"ME_FORCE_CUDA": "1", "TORCH_CUDA_ARCH_LIST": f"{major}.{minor}"}
    if sdist := next(iter(sorted(setting.wheels.glob("MinkowskiEngine-*.tar.gz"))), None):
        environment["ME_SDIST"] = str(sdist)
    build = ROOT / "tools" / "minkowski" / "build.sh"
    subprocess.run(["bash", str(build), str(built)], check=True, env=environment, stdout=sys.stderr)
    return next(iter(sorted(built.glob("*.whl"))))


def checks(setting: Setting, recorder: Recorder) -> None:
    """MinkowskiEngine alone: against dense convolutions, the CPU, itself once more."""
    import MinkowskiEngine as ME

    if setting.on_gpu:
        recorder.add("MinkowskiEngine with CUDA", ok=bool(ME.is_cuda_available()), note=ME.__version__)
    for check in (dense_convolution, strided_convolution, row_order, whole_net, repeated, gradients, memory_growth):
        with recorder.guarded(f"ME: {check.__name__}"):
            check(ME, setting, recorder)


def cloud(count: int, size: int, frames: int = 2, seed: int = 0) -> Tensor:
    """(N, 4) int32 unique coordinates in random order, frame by frame, on the CPU."""
    random = torch.Generator().manual_seed(seed)
    parts = []
    for frame in range(frames):
        place = torch.randint(0, size, (count, 3), generator=random).unique(dim=0)
        place = place[torch.randperm(len(place), generator=random)]
        parts.append(torch.cat([torch.full((len(place), 1), frame), place], dim=1))
    return torch.cat(parts).int()


def dense_convolution(ME: Any, setting: Setting, recorder: Recorder) -> None:
    coords, channels = cloud(400, 12), (5, 7)
    torch.manual_seed(0)
    layer = ME.MinkowskiConvolution(*channels, kernel_size=3, bias=False, dimension=3)
    features = torch.randn(len(coords), channels[0])
    ours, gradient = _convolved(ME, setting.device, layer, coords, features)
    volume, weight = _dense(coords, features, 12).requires_grad_(), _weight(layer, 3)
    full = F.conv3d(volume, weight, padding=1)
    rows = coords.long()
    reference = full[rows[:, 0], :, rows[:, 1], rows[:, 2], rows[:, 3]]
    reference.square().sum().backward()
    assert volume.grad is not None
    there = volume.grad[rows[:, 0], :, rows[:, 1], rows[:, 2], rows[:, 3]]
    recorder.add("ME: 3x3x3 against conv3d", apart(ours, reference), tolerance=TOLERANCE)
    recorder.add("ME: its gradient", apart(gradient, there), tolerance=TOLERANCE)


def strided_convolution(ME: Any, setting: Setting, recorder: Recorder) -> None:
    coords = cloud(400, 12)
    torch.manual_seed(0)
    down = ME.MinkowskiConvolution(4, 6, kernel_size=2, stride=2, dimension=3)
    up = ME.MinkowskiConvolutionTranspose(6, 3, kernel_size=2, stride=2, dimension=3)
    features = torch.randn(len(coords), 4)
    half = F.conv3d(_dense(coords, features, 12), _weight(down, 2), stride=2)
    occupied = F.max_pool3d(_dense(coords, torch.ones(len(coords), 1), 12), 2)
    full = F.conv_transpose3d(half * occupied, _weight(up, 2, transposed=True), stride=2)
    rows = coords.long()
    reference = full[rows[:, 0], :, rows[:, 1], rows[:, 2], rows[:, 3]]
    down, up = down.to(setting.device), up.to(setting.device)
    x = ME.SparseTensor(features.to(setting.device), coordinates=coords.to(setting.device))
    recorder.add("ME: 2x2x2 down and up against dense", apart(up(down(x)).F, reference), tolerance=TOLERANCE)


def row_order(ME: Any, setting: Setting, recorder: Recorder) -> None:
    """The network relies on it: unique coordinates come out in the order they went in."""
    coords = cloud(*(2000, 30) if setting.tiny else (40000, 80)).to(setting.device)
    x = ME.SparseTensor(torch.zeros(len(coords), 1, device=setting.device), coordinates=coords)
    recorder.add("ME: rows keep their order", ok=torch.equal(x.C, coords), note=f"{len(coords)} voxels")


def whole_net(ME: Any, setting: Setting, recorder: Recorder) -> None:
    one, two = (_net(ME, device, setting.tiny)() for device in ("cpu", setting.device))
    names = ("output", "gradient of the input", "of the first kernel", "of the last kernel")
    for name, reference, ours in zip(names, one, two, strict=True):
        recorder.add(f"ME: small U-Net against the CPU, {name}", apart(ours, reference), tolerance=10 * TOLERANCE)


def repeated(ME: Any, setting: Setting, recorder: Recorder) -> None:
    """Not a check: whether the same twice gives the same bits, and how far apart if not."""
    net = _net(ME, setting.device, setting.tiny)
    one, two = net(), net()
    same = all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    far = max(apart(a, b) for a, b in zip(one, two, strict=True))
    recorder.add("ME: the same twice", far, note="bit for bit" if same else "other last bits")


def gradients(ME: Any, setting: Setting, recorder: Recorder) -> None:
    coords = cloud(12, 4, frames=1).to(setting.device)
    layer = ME.MinkowskiConvolution(2, 3, kernel_size=3, dimension=3).double().to(setting.device)

    def through(features: Tensor, kernel: Tensor) -> Tensor:
        x = ME.SparseTensor(features, coordinates=coords)
        key = x.coordinate_map_key
        return layer.conv.apply(
            features, kernel, layer.kernel_generator, layer.convolution_mode, key, key, x.coordinate_manager
        )

    features = torch.randn(len(coords), 2, dtype=torch.float64, device=setting.device, requires_grad=True)
    passed = torch.autograd.gradcheck(through, (features, layer.kernel), nondet_tol=1e-9)
    recorder.add("ME: gradcheck", ok=bool(passed))


def memory_growth(ME: Any, setting: Setting, recorder: Recorder) -> None:
    if not setting.on_gpu:
        return
    net = _net(ME, setting.device, setting.tiny)
    net()
    before = torch.cuda.memory_allocated()
    for _ in range(20):
        net()
    grown = torch.cuda.memory_allocated() - before
    recorder.add("ME: memory held after 20 more steps", grown / 2**20, "MiB", tolerance=1.0)


def _net(ME: Any, device: str, tiny: bool) -> Callable[[], list[Tensor]]:
    """A small U-Net, forward and backward: always the same weights and input; output and gradients, on the CPU."""
    torch.manual_seed(0)
    conv = ME.MinkowskiConvolution
    first, second = conv(4, 16, kernel_size=5, dimension=3), conv(16, 32, kernel_size=2, stride=2, dimension=3)
    third = conv(32, 32, kernel_size=3, dimension=3)
    fourth = ME.MinkowskiConvolutionTranspose(32, 16, kernel_size=2, stride=2, dimension=3)
    last = conv(32, 5, kernel_size=1, dimension=3, bias=True)
    net = nn.ModuleList([first, ME.MinkowskiBatchNorm(16), second, third, fourth, last]).to(device)
    coords = cloud(500, 16) if tiny else cloud(20000, 60)
    features = torch.randn(len(coords), 4).to(device).requires_grad_()
    coords = coords.to(device)

    def once() -> list[Tensor]:
        net.zero_grad(set_to_none=True)
        features.grad = None
        skip = ME.MinkowskiReLU()(net[1](first(ME.SparseTensor(features, coordinates=coords))))
        y = last(ME.cat(skip, fourth(third(second(skip))))).F
        y.square().mean().backward()
        gradients = (features.grad, first.kernel.grad, last.kernel.grad)
        return [t.detach().cpu().clone() for t in (y, *gradients) if t is not None]

    return once


def _convolved(ME: Any, device: str, layer: nn.Module, coords: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    moved = features.to(device, copy=True).requires_grad_()
    out = layer.to(device)(ME.SparseTensor(moved, coordinates=coords.to(device))).F
    out.square().sum().backward()
    assert moved.grad is not None
    return out, moved.grad


def _dense(coords: Tensor, features: Tensor, side: int) -> Tensor:
    rows = coords.long()
    volume = features.new_zeros(int(rows[:, 0].max()) + 1, features.shape[1], side, side, side)
    volume[rows[:, 0], :, rows[:, 1], rows[:, 2], rows[:, 3]] = features
    return volume


def _weight(layer: Any, side: int, transposed: bool = False) -> Tensor:
    """A kernel (side^3, in, out), x fastest, as torch's convolutions want it."""
    kernel = layer.kernel.detach().cpu().reshape(side, side, side, *layer.kernel.shape[-2:])
    return kernel.permute(3, 4, 2, 1, 0) if transposed else kernel.permute(4, 3, 2, 1, 0)
