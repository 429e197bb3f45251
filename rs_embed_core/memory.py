"""Stage forward: how many samples a device has room for."""

from __future__ import annotations

import math
from pathlib import Path

import torch

_SHARE = 0.8  # of what is free; the rest is for fragments, kernels' workspaces and the copy of the next batch
_MB = 1e6
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


class Room:
    """How many samples fit at once. It shrinks by what turned out not to fit, and never grows again.

    Args:
        free_mb: memory for the activations of a batch; None where it is not known.
    """

    def __init__(self, free_mb: float | None) -> None:
        self._mb = math.inf if free_mb is None else _SHARE * free_mb

    def samples(self, sample_mb: float) -> int | None:
        """How many samples of this size fit, at least one; None for any number."""
        return None if math.isinf(self._mb) else max(1, int(self._mb // sample_mb))

    def exceeded(self, samples: int, sample_mb: float) -> None:
        """Remember that so many did not fit: from now on it is half as many."""
        self._mb = min(self._mb, sample_mb * (samples // 2 or 1))


def free_mb(device: torch.device) -> float | None:
    """Memory that a process can still have on a device, in MB; None where there is no way to tell.

    On a GPU that is what other processes leave, and what torch holds without using it. On the CPU it is what the
    host has available, or less where a container has a limit.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (torch.cuda.mem_get_info(device)[0] + kept) / _MB
    if device.type == "mps":
        return (torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()) / _MB
    known = [found for found in (_host_mb(_MEMINFO), container_mb(_CGROUP)) if found is not None]
    return min(known, default=None)


def _host_mb(meminfo: Path) -> float | None:
    """``MemAvailable`` of Linux."""
    if not meminfo.is_file():
        return None
    line = next(line for line in meminfo.read_text("utf-8").splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024 / _MB


def container_mb(cgroup: Path) -> float | None:
    """What a container's limit leaves, cached files aside; None without a limit (cgroup v2)."""
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if not limit.is_file() or not used.is_file() or limit.read_text("utf-8").strip() == "max":
        return None
    stat = dict(line.split() for line in (cgroup / "memory.stat").read_text("utf-8").splitlines())
    held = int(used.read_text("utf-8")) - int(stat.get("inactive_file", 0))
    return (int(limit.read_text("utf-8")) - held) / _MB
