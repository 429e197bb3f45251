"""A second application, deployed from a Serve config as KubeRay does: slow imagery, and models that cannot start."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from ray import serve
from ray.serve.context import _get_global_client  # what the dashboard's REST API calls
from ray.serve.schema import ServeDeploySchema

NAME: Final = "slow"
PREFIX: Final = "/slow"
DELAY_MS: Final = 150
ENCODER: Final = "mosaiks-gaussian"
BROKEN: Final = {"model": "galileo", "variant": "tiny", "device": "cuda:99", "min_replicas": 0}
TOO_LARGE: Final = {"model": "dofa", "num_gpus": 99, "min_replicas": 0}
COLD_START_S: Final = 3
_ARGS: Final = {
    "models": [{"model": "mosaiks", "num_cpus": 0, "cpu_threads": 1}, BROKEN, TOO_LARGE],
    "fetch": {"actors": 2, "concurrency": 2, "block_items": 4, "linger_ms": 5},
    "providers": {"synthetic_delay_ms": DELAY_MS},
    "checkpoints": {"offline": True},
    "limits": {"cold_start_timeout_s": COLD_START_S},
    "http": {"router_num_cpus": 0},
}


def deploy(user_config: Mapping[str, object] | None = None) -> None:
    """Apply the config, with another ``user_config`` of the encoder if one is given; back when it runs."""
    deployments: list[dict[str, object]] = [{"name": "dofa-base", "graceful_shutdown_timeout_s": 1}]
    if user_config is not None:
        deployments.append({"name": ENCODER, "user_config": dict(user_config)})
    application = {
        "name": NAME,
        "route_prefix": PREFIX,
        "import_path": "serve_app.app:build",
        "args": _ARGS,
        "deployments": deployments,
    }
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))
    deadline = time.monotonic() + 90
    while (state := serve.status().applications[NAME]).status != "RUNNING":
        assert state.status == "DEPLOYING", state.message
        assert time.monotonic() < deadline, state
        time.sleep(0.2)
