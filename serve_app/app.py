"""``build(settings)``: the whole Serve graph on one screen.

Annotations are live objects here (no ``__future__`` import): Serve makes the settings out of a config's ``args``
by the annotation of ``build``'s argument, and hands over a plain dict where that is a text.
"""

from collections import Counter
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import BackpressureConfig
from ray.serve.schema import LoggingConfig

from rs_embed_core.registry import get_card
from serve_app.deployments.encoder import EncoderReplica
from serve_app.deployments.ingress import RouterReplica, ThisReplica, limits
from serve_app.http.app import build_http
from serve_app.router import default_ask
from serve_app.settings import ModelSettings, ServiceSettings

_RETRY_AFTER_S = 5
_GROUPS_ADMITTED = 6  # two lanes of a request and a few of its neighbours; more would only queue in the replica


def build(settings: ServiceSettings) -> Application:
    """The application: one encoder deployment per model variant, and the router that calls them.

    The same function serves ``rs-embed serve``, ``serve run serve_app.app:build``, the ``serveConfigV2`` of a
    RayService and the tests. In a Serve config a change of ``args`` restarts every replica; what
    ``user_config`` holds changes in place when it is given under ``deployments``.

    Raises:
        UnknownModel, UnknownOption: the settings name a model or variant that does not exist.
        ValueError: the same variant twice.
    """
    served = [(default_ask(model)[1].encoder, model) for model in settings.models]
    if twice := {name for name, count in Counter(name for name, _ in served).items() if count > 1}:
        raise ValueError(f"{', '.join(sorted(twice))} is listed twice in the models.")
    encoders = {
        name: _encoder(name, model, settings)
        for name, model in served
        if get_card(model.model)[0].product is None  # a precomputed product needs no encoder
    }

    def http() -> FastAPI:  # Serve calls a plain function in the replica; anything else it pickles as it is
        return build_http(ThisReplica(), limits(settings), echo_request_id=False)  # Serve echoes it

    router = _deployment(serve.ingress(http)(RouterReplica)).options(
        name="router",
        num_replicas=settings.http.routers,
        max_ongoing_requests=settings.http.max_ongoing_requests,
        max_queued_requests=settings.http.max_queued_requests,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=_RETRY_AFTER_S),
        ray_actor_options=_router_resources(settings),
        health_check_period_s=5,
        logging_config=_serve_logs(settings),
    )
    return router.bind(settings, encoders)


def _encoder(name: str, model: ModelSettings, settings: ServiceSettings) -> Application:
    ask, _ = default_ask(model)
    scaling: dict[str, Any] = {"num_replicas": model.min_replicas}  # Any: Serve's own option types differ
    if (model.min_replicas, model.max_replicas) != (1, 1):
        scaling = {
            "autoscaling_config": {
                "min_replicas": model.min_replicas,
                "max_replicas": model.max_replicas,
                "target_ongoing_requests": 2,  # groups, not ROIs
                "downscale_to_zero_delay_s": model.downscale_to_zero_delay_s,
            }
        }
    deployment = _deployment(EncoderReplica).options(
        name=name,
        max_ongoing_requests=_GROUPS_ADMITTED,
        user_config={"batch_size": model.batch_size},
        health_check_period_s=5,
        logging_config=_serve_logs(settings),
        ray_actor_options={
            "num_cpus": model.num_cpus,
            "num_gpus": model.num_gpus,
            "resources": dict(model.resources),
        },
        **scaling,
    )
    return deployment.bind(ask, model, settings.checkpoints, settings.observe)


def _deployment(replica: type) -> Deployment:
    deployment = serve.deployment(replica)
    if not isinstance(deployment, Deployment):  # the decorator's other form returns a decorator
        raise TypeError(f"{replica} is not a deployment")
    return deployment


def _serve_logs(settings: ServiceSettings) -> LoggingConfig:
    """Serve's own lines of a replica, in the form of ours."""
    return LoggingConfig(encoding=settings.observe.log_format.upper(), log_level=settings.observe.log_level)


def _router_resources(settings: ServiceSettings) -> dict[str, Any]:  # Any: Ray's own option types differ
    resources: dict[str, Any] = {
        "num_cpus": settings.http.router_num_cpus,
        "resources": dict(settings.http.router_resources),
    }
    if settings.http.haproxy:
        # Only with the user's code on the main loop does a slow client slow the stream down (notes, finding 7).
        resources["runtime_env"] = {"env_vars": {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}}
    return resources
