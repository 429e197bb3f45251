"""Models that compute on CPUs share the memory of their pods, which Ray does not divide among them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rs_embed_core.errors import InvalidRequest
from rs_embed_core.registry import get_card
from serve_app.kubernetes.devices import Load
from serve_app.kubernetes.settings import ENCODE, Tree
from serve_app.router import default_ask
from serve_app.settings import ModelSettings


def check_together(models: Sequence[ModelSettings], pod: Tree, room_mb: float) -> None:
    """Refuse replicas that may come to sit on one pod and pass its memory: the kernel would end one of them.

    Args:
        models: those that compute on pods of one group.
        pod: Ray's resources of such a pod, by which it places them.
        room_mb: memory of the pod, without its ``/dev/shm``.

    Raises:
        InvalidRequest: it says which.
    """
    heaviest = sorted(((_least_mb(model), model) for model in models), key=lambda entry: entry[0], reverse=True)
    cpus, places, taken, who = float(pod["CPU"]), float(pod.get(ENCODE, math.inf)), 0.0, []
    for least_mb, model in heaviest:
        most = 1 if model.min_replicas > 1 else model.max_replicas  # who keeps two has each on a pod of its own
        count = int(min(most, places, cpus // model.num_cpus if model.num_cpus else most))
        if count:
            who.append(f"{count} x {model.model} ({least_mb / 1000:.1f} GB at least)")
        cpus, places, taken = cpus - count * model.num_cpus, places - count, taken + count * least_mb
    if taken > room_mb:
        msg = f"{' and '.join(who)} may share a pod, and its memory without /dev/shm is {room_mb / 1000:.1f} GB."
        raise InvalidRequest(
            msg, hint="Give each more cpus, so that fewer fit a pod, have fewer replicas, or GPUs for it."
        )


def _least_mb(model: ModelSettings) -> float:
    selection = default_ask(model)[1]
    variant = get_card(model.model)[0].variant(selection.variant, selection.modality)
    return Load(selection.encoder, variant, 0, (model.min_replicas, model.max_replicas)).least_mb
