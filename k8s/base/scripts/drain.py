"""Return when this pod serves nothing any more: the preStop hook of a worker.

Deleting a pod tells Ray nothing, and Kubernetes only stops sending new connections. So Ray is told here that the node
goes away: Serve starts replacements elsewhere, its proxy says that it is draining, and requests under way end.
"""

import argparse
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import ray
from ray.exceptions import RayError
from ray.util.state import list_actors
from ray.util.state.exception import RayStateApiException

_SERVING = ("ServeReplica", "ProxyActor", "HAProxyManager")  # class names of what holds requests
_PAUSE_S = 2.0
# Without an answer: a head that is replaced is back sooner (KubeRay counts on two minutes). Where the whole cluster is
# deleted its head goes first, and nobody will ever answer.
_PATIENCE_S = 180.0
# What a GCS that is being replaced makes of questions. Requests go on meanwhile, so none of these ends it by itself.
_PASSING = (OSError, RuntimeError, RayError, RayStateApiException, subprocess.CalledProcessError)


def main() -> int:
    """0 where everything ended in time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, required=True, help="longest wait; the longest request and no less")
    parser.add_argument("--address", default="auto", help="address of the GCS (default: this pod's cluster)")
    parser.add_argument("--node-id", help="another node (default: this one)")
    args = parser.parse_args()

    def node() -> str:
        if not ray.is_initialized():
            ray.init(address=args.address, log_to_driver=False, logging_level="ERROR")
        return args.node_id or ray.get_runtime_context().get_node_id()

    left = drained(lambda remaining_s: announce(node(), remaining_s), lambda: serving(node()), args.seconds)
    print(f"no longer waited for: {', '.join(left)}" if left else "nothing is served here any more")
    return int(bool(left))


def drained(
    announce: Callable[[int], None],
    serving: Callable[[], list[str]],
    seconds: float,
    *,
    patience_s: float = _PATIENCE_S,
    pause_s: float = _PAUSE_S,
) -> list[str]:
    """What still holds requests when the time is over or nobody answers; nothing where all of them ended.

    Args:
        announce: says that the node goes away, in so many seconds. After a failure it is said again: who knew may be
            gone.
        serving: class names of what holds requests.
        patience_s: longest time without an answer.
    """
    asking = _Asking(announce, serving, time.monotonic() + seconds)
    threading.Thread(target=asking.run, args=(pause_s,), daemon=True).start()
    while not asking.over.wait(min(pause_s, max(0.0, asking.deadline - time.monotonic()))):
        now = time.monotonic()
        if now >= asking.deadline or now - asking.answered >= patience_s:
            asking.over.set()
    if asking.error is not None:
        raise asking.error
    return asking.left


class _Asking:
    """Asks again and again, in a thread of its own: Ray may take minutes to say that nobody is there."""

    def __init__(self, announce: Callable[[int], None], serving: Callable[[], list[str]], deadline: float) -> None:
        self._announce = announce
        self._serving = serving
        self.deadline = deadline
        self.answered = time.monotonic()
        self.left = ["what, nobody could say"]
        self.error: BaseException | None = None
        self.over = threading.Event()

    def run(self, pause_s: float) -> None:
        """Ask until nothing is left."""
        try:
            self._run(pause_s)
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it
            self.error = error
        finally:
            self.over.set()

    def _run(self, pause_s: float) -> None:
        is_announced = False
        while (remaining_s := self.deadline - time.monotonic()) > 0:
            try:
                if not is_announced:
                    self._announce(math.ceil(remaining_s))
                    is_announced = True
                self.left = self._serving()
            except _PASSING as error:
                print(f"asking again: {error}", file=sys.stderr)
                is_announced = False
            else:
                self.answered = time.monotonic()
            if not self.left or self.over.wait(pause_s):
                return


def announce(node: str, remaining_s: int) -> None:
    """Have the GCS call the node draining."""
    gcs = ray.get_runtime_context().gcs_address
    command = ["ray", "drain-node", "--address", gcs, "--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "its pod is being deleted", "--deadline-remaining-seconds", str(remaining_s)]
    subprocess.run(command, check=True)


def serving(node: str) -> list[str]:
    """Class names of the actors on the node that hold requests."""
    actors = list_actors(filters=[("node_id", "=", node), ("state", "=", "ALIVE")], limit=1000)
    return sorted(actor.class_name for actor in actors if actor.class_name.startswith(_SERVING))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a thread that still asks, and Ray's own leave-taking, would wait for who is gone
