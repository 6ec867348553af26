"""What a container allows, from trees of files as the kernel shows them."""

from __future__ import annotations

import errno
import os

import psutil
import pytest

from ovps import doctor, machine
from ovps.clip import demo
from ovps.errors import ConfigError, SetupError
from pipelines.precompute import options

GIB = 2**30
V1_NO_LIMIT = "9223372036854771712"


@pytest.fixture
def tree(tmp_path):
    """Write files below a root; it is returned."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return tmp_path

    return write


@pytest.fixture(autouse=True)
def _a_large_machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    memory = psutil.virtual_memory()._replace(total=64 * GIB, available=60 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


V2 = {
    "proc/self/cgroup": "0::/pod/box",
    "sys/fs/cgroup/pod/box/memory.max": str(3 * GIB),
    "sys/fs/cgroup/pod/box/memory.current": str(2 * GIB),
    "sys/fs/cgroup/pod/box/memory.stat": f"anon 5\ninactive_file {GIB}",
    "sys/fs/cgroup/pod/box/cpu.max": "max 100000",
    "sys/fs/cgroup/pod/memory.max": "max",
    "sys/fs/cgroup/pod/cpu.max": "250000 100000",
}
V1 = {
    "proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/",
    "sys/fs/cgroup/unified/cgroup.procs": "",
    "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": str(3 * GIB),
    "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": str(2 * GIB),
    "sys/fs/cgroup/memory/docker/abc/memory.stat": f"inactive_file 3\ntotal_inactive_file {GIB}",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": V1_NO_LIMIT,
    "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "250000",
    "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
}
NAMESPACED = {  # inside a container the path is the host's, and what limits it is at the root of the mount
    "proc/self/cgroup": "0::/host/path/of/it",
    "sys/fs/cgroup/memory.max": str(3 * GIB),
    "sys/fs/cgroup/memory.current": str(GIB),
    "sys/fs/cgroup/cpu.max": "250000 100000",
}


@pytest.mark.parametrize("files", [V2, V1, NAMESPACED], ids=["v2", "v1", "namespaced"])
def test_limits_of_a_container(tree, files):
    root = tree(files)
    assert machine.cores(root) == 2
    assert machine.memory(root) == 3 * GIB
    assert machine.free_memory(root) == 2 * GIB


def test_half_a_core_is_one(tree):
    assert machine.cores(tree({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"})) == 1


@pytest.mark.parametrize("files", [{}, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max"}])
def test_without_limits_the_machine_counts(tree, files):
    root = tree(files)
    assert (machine.cores(root), machine.memory(root), machine.free_memory(root)) == (16, 64 * GIB, 60 * GIB)


def test_default_workers_fit_a_container_of_3_gb(tree, monkeypatch):
    root = tree(V2 | {"sys/fs/cgroup/pod/cpu.max": "max 100000"})
    monkeypatch.setattr(machine, "ROOT", root)
    assert machine.cores(root) == 16
    for name in ("cores", "memory", "free_memory"):
        monkeypatch.setattr(machine, name, lambda real=getattr(machine, name): real(root))
    assert options.default_workers("convnext_large_d_320", "cpu", 0) == 1
    assert options.default_workers(demo.NAME, "cpu", 0) == 1
    # beside one accelerator the process itself has the threads that a worker would have
    assert [options.default_workers(demo.NAME, device, gpus) for device, gpus in (("cuda:1", 1), ("npu", 0))] == [0, 0]
    check = doctor._machine()
    assert check.found == f"16 of {os.cpu_count()} cores, 3.0 of 64.0 GiB"
    assert check.status == "warning"


def test_more_processes_than_a_machine_can_run_are_refused_with_what_it_has(monkeypatch):
    machine.check_processes("--workers", 128)  # eight for each of 16 cores
    with pytest.raises(ConfigError, match=r"--workers 129 .* it has 16 cores and .* GB of free .* Give at most 128"):
        machine.check_processes("--workers", 129)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    machine.check_processes("--jobs", 64)  # a few too many are slow, and no error


@pytest.mark.parametrize(
    ("files", "most"),
    [
        (V2, None),
        (V2 | {"sys/fs/cgroup/pod/box/pids.max": "max", "sys/fs/cgroup/pod/pids.max": "512"}, 512),
        ({"proc/self/cgroup": "3:pids:/docker/abc", "sys/fs/cgroup/pids/docker/abc/pids.max": "100"}, 100),
    ],
)
def test_threads_that_a_container_may_have(files, most, tree):
    assert machine.most_threads(tree(files)) == most


@pytest.mark.parametrize(
    ("files", "refused"),
    [
        (V2, 0),
        (V2 | {"sys/fs/cgroup/pod/pids.events": "max 3\nmax.imposed 1"}, 3),
        ({"proc/self/cgroup": "3:pids:/docker/abc", "sys/fs/cgroup/pids/docker/abc/pids.events": "max 2"}, 2),
    ],
)
def test_threads_that_a_container_was_refused(files, refused, tree):
    assert machine.threads_refused(tree(files)) == refused


def test_locks_that_cannot_be_shared_name_where_they_lie_and_another_way(monkeypatch):
    machine.check_semaphores("Use one process")

    def refused(*arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("_multiprocessing.SemLock", refused)
    monkeypatch.setattr("multiprocessing.synchronize._multiprocessing.SemLock", refused)
    with pytest.raises(
        SetupError, match=r"Read-only file system \(file /dev/shm\)\. Make it writable\. Use one process"
    ):
        machine.check_semaphores("Use one process")
