"""Where the quota actor sits, on a Ray of three nodes in a process of its own."""

from __future__ import annotations

from tests.serve import programs

_PROGRAM = """
import ray
from ray.cluster_utils import Cluster
from rs_embed_core.providers.gate import Quota
from serve_app.deployments.limiter import quota_actor

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1, resources={"readers": 1})
cluster.add_node(num_cpus=1, resources={"gpu_node": 1})
ray.init(address=cluster.address)


@ray.remote(num_cpus=0, resources={"readers": 1})
class Reader:
    def places(self):
        self.kept = [quota_actor(f"quota-{i}", {"gee": Quota(1, 1.0)}) for i in range(4)]
        asked = [actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()) for actor in self.kept]
        return ray.get_runtime_context().get_node_id(), ray.get(asked)


here, places = ray.get(Reader.remote().places.remote())
print("elsewhere:", sum(place != here for place in places), "of", len(places))
ray.shutdown()
cluster.shutdown()
"""


def test_it_sits_with_whoever_started_it_and_keeps_no_other_node_up() -> None:
    assert "elsewhere: 0 of 4" in programs.run(_PROGRAM)
