"""Return when this pod serves nothing any more: the preStop hook of a worker.

Deleting a pod tells Ray nothing, and Kubernetes only stops sending new connections. So Ray is told here that the node
goes away: Serve starts replacements elsewhere, its proxy says that it is draining, and requests under way end.
"""

import argparse
import subprocess
import sys
import time

import ray
from ray.util.state import list_actors

_SERVING = ("ServeReplica", "ProxyActor", "HAProxyManager")  # class names of what holds requests
_PAUSE_S = 2.0


def main() -> int:
    """0 where everything ended in time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, required=True, help="longest wait; the longest request and no less")
    parser.add_argument("--address", default="auto", help="address of the GCS (default: this pod's cluster)")
    parser.add_argument("--node-id", help="another node (default: this one)")
    args = parser.parse_args()
    deadline = time.monotonic() + args.seconds
    ray.init(address=args.address, log_to_driver=False, logging_level="ERROR")
    node = args.node_id or ray.get_runtime_context().get_node_id()
    announce(ray.get_runtime_context().gcs_address, node, args.seconds)
    while left := serving(node):
        if time.monotonic() > deadline:
            print(f"{args.seconds} s are over; still here: {', '.join(left)}")
            return 1
        time.sleep(_PAUSE_S)
    print("nothing is served here any more")
    return 0


def announce(gcs: str, node: str, seconds: int) -> None:
    """Have the GCS call the node draining."""
    command = ["ray", "drain-node", "--address", gcs, "--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "its pod is being deleted", "--deadline-remaining-seconds", str(seconds)]
    subprocess.run(command, check=True)


def serving(node: str) -> list[str]:
    """Class names of the actors on the node that hold requests."""
    actors = list_actors(filters=[("node_id", "=", node), ("state", "=", "ALIVE")], limit=1000)
    return sorted(actor.class_name for actor in actors if actor.class_name.startswith(_SERVING))


if __name__ == "__main__":
    sys.exit(main())
