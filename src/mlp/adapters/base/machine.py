"""The door to this machine: what hardware and which Python environment a run has."""

import contextlib
import getpass
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from mlp.core.runs.provenance import Environment, Machine

_ELSEWHERE = "192.0.2.1"  # no machine has it (RFC 5737): what leads there leads out of this one


def machine() -> Machine:
    """Host, system, processor, memory and GPUs."""
    return Machine(
        host=platform.node(),
        system=platform.platform(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=_gpus(),
    )


def environment(environ: Mapping[str, str] = os.environ) -> Environment:
    """This Python and the version of every package in it; of variables only the names."""
    return Environment(
        python=platform.python_version(),
        executable=sys.executable,
        packages=packages(),
        variables=sorted(environ),
    )


def packages() -> dict[str, str]:
    """The installed packages, by normalised name."""
    found = {}
    for distribution in metadata.distributions():
        # The directory's name has both; parsing each METADATA takes five times as long.
        directory = Path(str(getattr(distribution, "_path", ""))).name
        name, _, version = directory.removesuffix(".dist-info").partition("-")
        if not directory.endswith(".dist-info") or not version:
            name, version = distribution.metadata["Name"], distribution.version
        if name:
            found[name.lower().replace("_", "-").replace(".", "-")] = version
    return dict(sorted(found.items()))


def user() -> str:
    """The name of whoever runs this; a number in a container whose user has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def address_towards(host: str) -> str:
    """The address that this machine has in the network in which `host` is; its name without one.

    Nothing is sent: connecting a UDP socket only chooses the interface.
    """
    for each in (host, _ELSEWHERE):
        with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.connect((each, 1))
            address = str(probe.getsockname()[0])
            if not address.startswith("127."):
                return address
    return platform.node()


def free_bytes(path: Path) -> int:
    """What may still be written to the disk of `path`."""
    return shutil.disk_usage(path).free


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _gpus() -> tuple[str, ...]:
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    if shutil.which(query[0]) is None:
        return ()
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()  # a driver that does not answer has no GPU to train on
    return tuple(listed.stdout.strip().splitlines())
