"""Commands on a machine that lacks something: little shared memory, no network."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LITTLE_SHARED_MEMORY = ("-m", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh")
NO_NETWORK = ("-n",)


def run_unshared(lack: tuple[str, ...], *command: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """`python COMMAND` where it lacks something. Fails the test where root is not allowed to; skips it for others."""
    possible = subprocess.run(["unshare", *lack, "true"], capture_output=True, text=True)
    if possible.returncode != 0:
        reason = f"unshare {lack[0]} is not allowed here: {possible.stderr.strip()}"
        if os.geteuid() == 0 and not os.environ.get("OVPS_NO_NAMESPACES"):
            pytest.fail(f"{reason}. Set OVPS_NO_NAMESPACES=1 where root cannot make name spaces")
        pytest.skip(f"{reason}; run as root to test this")
    return subprocess.run(
        ["unshare", *lack, sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
