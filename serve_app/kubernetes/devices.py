"""GPUs: what kinds there are, and whether the models fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rs_embed_core.errors import InvalidRequest
from rs_embed_core.inputs import Variant

# Memory in GB (10^9), from the makers' data sheets, of the kinds that our torch has code for (sm_75 and later).
_MEMORY_GB: Mapping[str, float] = {
    "t4": 16,
    "l4": 24,
    "a10g": 24,
    "a100-40gb": 40,
    "l40s": 48,
    "a100-80gb": 80,
    "h100": 80,
    "h200": 141,
    "b200": 180,
}
_GKE_LABEL = "cloud.google.com/gke-accelerator"
_GKE: Mapping[str, str] = {
    "t4": "nvidia-tesla-t4",
    "l4": "nvidia-l4",
    "a100-40gb": "nvidia-tesla-a100",
    "a100-80gb": "nvidia-a100-80gb",
    "h100": "nvidia-h100-80gb",
    "h200": "nvidia-h200-141gb",
    "b200": "nvidia-b200",
}
_CONTEXT_MB = 600  # of a process on a GPU before it holds a tensor: CUDA's context, torch's kernels, cuBLAS
_SHARE = 0.8  # of what is free that a batch may take (rs_embed_core/memory.py)


class Gpu(BaseModel):
    """The GPUs of an installation: one to a pod, all of one kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(description=f"Kind: {', '.join(_MEMORY_GB)}, or another with memory_gb.")
    count: int = Field(ge=1, description="Most GPUs that may be held at once.")
    memory_gb: float | None = Field(None, gt=0, description="Memory of each; empty takes the kind's.")
    node_selector: Mapping[str, str] | None = Field(
        None, description="Labels of the nodes; empty takes GKE's label of the kind, {} any node with a GPU."
    )

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.type not in _MEMORY_GB and self.memory_gb is None:
            known = ", ".join(_MEMORY_GB)
            raise ValueError(f"type {self.type!r} is not known: it is one of {known}, or memory_gb says its memory.")
        if self.node_selector is None and self.type not in _GKE:
            raise ValueError(f"node_selector is missing: GKE has no label for {self.type}; {{}} takes any GPU node.")
        return self

    @property
    def memory_mb(self) -> float:
        """Memory of each."""
        return 1000 * (self.memory_gb or _MEMORY_GB[self.type])

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the nodes that have them."""
        return {_GKE_LABEL: _GKE[self.type]} if self.node_selector is None else dict(self.node_selector)


@dataclass(frozen=True)
class Load:
    """One model variant on GPUs.

    Attributes:
        share: part of a GPU that each replica has.
        replicas: least and most of them.
    """

    name: str
    variant: Variant
    share: float
    replicas: tuple[int, int]

    @property
    def is_apart(self) -> bool:
        """Whether no two replicas sit on one node: who keeps two means to keep one when a node goes."""
        return self.replicas[0] > 1

    @property
    def least_mb(self) -> float:
        """What a replica takes at least: weights, which stay float32 in every precision, and a batch of one."""
        return _CONTEXT_MB + 4 * (self.variant.parameters_m or 0) + (self.variant.sample_mb or 0) / _SHARE


def check_memory(loads: Iterable[Load], gpu: Gpu) -> None:
    """Refuse a model that its part of a GPU cannot hold.

    Raises:
        InvalidRequest: it says which, and what would hold it.
    """
    for load in loads:
        has = load.share * gpu.memory_mb
        if load.least_mb <= has:
            continue
        fitting = [kind for kind, memory in _MEMORY_GB.items() if load.least_mb <= 1000 * memory * load.share]
        whole = "gpus: 1" if load.least_mb <= gpu.memory_mb else ""
        part = "" if load.share == 1 else f"{load.share:g} of "
        raise InvalidRequest(
            f"{load.name} takes at least {load.least_mb / 1000:.1f} GB, and {part}a {gpu.type} has {has / 1000:.1f}.",
            hint=f"What would hold it: {', or '.join(filter(None, (whole, ', '.join(fitting))))}.",
        )


def gpus_held(loads: Sequence[Load], *, least: bool) -> int:
    """How many GPUs all replicas take, the largest parts placed first, as Ray packs them on nodes of one GPU."""
    which = 0 if least else 1
    parts = [load for load in loads for _ in range(load.replicas[which])]
    held: list[list[Load]] = []
    for part in sorted(parts, key=lambda load: load.share, reverse=True):
        place = next((gpu for gpu in held if _has_room(gpu, part)), None)
        if place is None:
            held.append([part])
        else:
            place.append(part)
    return len(held)


def _has_room(gpu: Sequence[Load], part: Load) -> bool:
    taken = sum(load.share for load in gpu)
    return taken + part.share <= 1 + 1e-9 and not (part.is_apart and part in gpu)


def check_count(loads: Sequence[Load], gpu: Gpu) -> None:
    """Refuse more replicas than the GPUs can hold: those left over would wait for ever.

    Raises:
        InvalidRequest: it says how many are wanted, and by whom.
    """
    wanted = gpus_held(loads, least=False)
    if wanted > gpu.count:
        whose = ", ".join(f"{load.name} {load.replicas[1]} x {load.share:g}" for load in loads)
        raise InvalidRequest(
            f"the models want {wanted} GPUs ({whose}), and gpu.count is {gpu.count}.",
            hint="Raise gpu.count, lower replicas, or let small models share one with gpus: 0.5; replicas of a model "
            "that keeps two or more (min) sit on different nodes.",
        )
