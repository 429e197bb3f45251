"""``ServiceSettings``: one tree, built once from defaults, YAML file, environment and flags, and handed down.

The only reader of the environment. The same object is the argument of ``build()``, the ``args:`` of a Serve
config and the ConfigMap on Kubernetes. Environment variables are ``RS_EMBED_`` plus the path with ``__``:
``RS_EMBED_FETCH__CONCURRENCY=32``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from rs_embed_core.providers.gate import Quota
from serve_app.provider_sections import CopernicusSection, GeeSection, Section, StacSection, TesseraSection


class ModelSettings(Section):
    """One model variant to serve: its encoder deployment."""

    model: str = Field(description="Model id or alias, as in the catalogue.")
    variant: str | None = Field(None, description="Variant of the model; empty takes the model's default.")
    min_replicas: int = Field(1, ge=0, description="Replicas kept; 0 lets the model sleep when nobody asks.")
    max_replicas: int = Field(1, ge=1, description="Most replicas under load.")
    num_gpus: float = Field(0, ge=0, description="GPUs reserved for each replica (fractions share one).")
    num_cpus: float = Field(1, ge=0, description="CPUs reserved for each replica.")
    resources: Mapping[str, float] = Field({}, description="Custom Ray resources reserved for each replica.")
    device: str = Field("auto", description="auto (cuda, then mps, then cpu), cpu, cuda, mps.")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Number format of the forward pass; float32 gives the reference's numbers."
    )
    batch_size: int | None = Field(None, ge=1, description="Most samples in a forward; empty takes the model's.")
    cpu_threads: int | None = Field(None, ge=1, description="Threads of a forward on the CPU; empty takes all cores.")
    warm_up: bool = Field(True, description="Run one forward before a replica is called ready.")
    downscale_to_zero_delay_s: float = Field(900, ge=0, description="Idle time before the last replica stops.")

    @model_validator(mode="after")
    def _fewest_and_most(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas is {self.min_replicas}, max_replicas {self.max_replicas}: raise max_replicas."
            )
        return self


class CacheSettings(Section):
    """Chips that are kept for whoever asks for them again; the synthetic provider's are not."""

    memory_mb: float = Field(256, ge=0, description="Kept by each fetch actor in the object store.")
    disk_path: Path | None = Field(None, description="Directory of the disk tier; empty has none.")
    disk_mb: float = Field(20_000, gt=0, description="Most that all files of the disk tier take.")
    no_imagery_s: float = Field(300, ge=0, description="How long it is believed that a place has no imagery.")


class FetchSettings(Section):
    """The fetch actors: imagery is read and prepared there."""

    actors: int = Field(2, ge=1, description="Fetch actors of the application, spread over the cluster.")
    concurrency: int = Field(16, ge=1, description="Reads under way at once in each actor.")
    block_items: int = Field(64, ge=1, description="Most ROIs handed over together.")
    linger_ms: float = Field(
        30,
        ge=0,
        description="Longest wait of a ready ROI for neighbours to join its block, while its encoder may run dry.",
    )
    num_cpus: float = Field(0, ge=0, description="CPUs reserved for each actor.")
    resources: Mapping[str, float] = Field({}, description="Custom Ray resources reserved for each actor.")
    cache: CacheSettings = Field(CacheSettings(), description="Chips that are kept.")


class ProviderSettings(Section):
    """Where imagery comes from. A provider that is not named here is not to be had, synthetic aside."""

    default: str = Field("synthetic", description="What backend auto means.")
    synthetic_delay_ms: float = Field(0, ge=0, description="Latency that the synthetic provider pretends to have.")
    gee: GeeSection | None = Field(None, description="Google Earth Engine.")
    stac: StacSection | None = Field(None, description="A STAC catalogue.")
    tessera: TesseraSection | None = Field(None, description="TESSERA's tiles.")
    copernicus: CopernicusSection | None = Field(None, description="The map of Copernicus-Embed.")

    @model_validator(mode="after")
    def _default_is_there(self) -> Self:
        if self.default not in self.names:
            raise ValueError(f"default is {self.default!r}; set up here are {', '.join(self.names)}.")
        return self

    @property
    def cached(self) -> tuple[str, ...]:
        """Those whose chips are worth keeping."""
        return tuple(name for name in ("gee", "stac", "tessera", "copernicus") if vars(self)[name] is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """All that are set up."""
        return ("synthetic", *self.cached)

    @property
    def quotas(self) -> dict[str, Quota]:
        """What the services allow, by provider."""
        bounded = {"gee": self.gee, "stac": self.stac}
        return {name: section.plain().quota for name, section in bounded.items() if section is not None}


class CheckpointSettings(Section):
    """Where weights come from."""

    root: Path | None = Field(None, description="Directory laid out <repo>/<file>; wins over the Hub.")
    offline: bool = Field(False, description="Never ask the Hugging Face Hub.")


class LimitSettings(Section):
    """What one request may take."""

    max_rois: int = Field(100_000, ge=1, description="Most ROIs in one request.")
    max_body_mb: float = Field(32, gt=0, description="Largest request body in megabytes.")
    window_rois: int = Field(512, ge=1, description="ROIs of one request under way at once.")
    window_mb: float = Field(
        512, gt=0, description="Imagery, samples or results of one request under way at once, in megabytes."
    )
    timeout_s: float = Field(3600, gt=0, description="Longest time for one request, in seconds.")
    cold_start_timeout_s: float = Field(600, gt=0, description="Longest wait for a model's first replica.")
    max_attempts: int = Field(
        3, ge=1, description="Times that an ROI is sent where it is lost with processes, the first included."
    )


class HttpSettings(Section):
    """The HTTP side."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    haproxy: bool = Field(False, description="HAProxy ingress (clusters: listens on all interfaces).")
    routers: int = Field(1, ge=1, description="Router replicas.")
    router_num_cpus: float = Field(1, ge=0, description="CPUs reserved for each router.")
    router_resources: Mapping[str, float] = Field(
        {}, description="Custom Ray resources of each router, such as {router: 1}, to bind it to labelled nodes."
    )
    max_ongoing_requests: int = Field(32, ge=1, description="Requests under way at once in each router.")
    max_queued_requests: int = Field(128, ge=-1, description="Requests waiting for a router before 429; -1: no bound.")


class TraceSettings(Section):
    """OpenTelemetry traces; they need the extra ``traces``."""

    endpoint: str | None = Field(
        None, description="OTLP/HTTP address of a collector, such as http://collector:4318; empty makes no traces."
    )
    ratio: float = Field(0.01, ge=0, le=1, description="Share of requests traced whose caller has not decided.")


class ObserveSettings(Section):
    """What the service tells about itself. Metrics are always there; they cost nothing that can be measured."""

    log_format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least of what is logged.")
    traces: TraceSettings = Field(TraceSettings(), description="OpenTelemetry traces.")


class ServiceSettings(Section):
    """Everything the service can be told."""

    name: str = Field("rs-embed", description="Name of the Serve application.")
    models: Annotated[tuple[ModelSettings, ...], Field(min_length=1)] = Field(
        (ModelSettings(model="mosaiks"),), description="Model variants to serve."
    )
    fetch: FetchSettings = Field(FetchSettings(), description="The fetch actors.")
    providers: ProviderSettings = Field(ProviderSettings(), description="Imagery.")
    checkpoints: CheckpointSettings = Field(CheckpointSettings(), description="Weights.")
    limits: LimitSettings = Field(LimitSettings(), description="What one request may take.")
    http: HttpSettings = Field(HttpSettings(), description="The HTTP side.")
    observe: ObserveSettings = Field(ObserveSettings(), description="Logs and traces.")


class _Sources(ServiceSettings, BaseSettings):
    """``ServiceSettings`` read from flags, environment and file, in falling order of precedence."""

    model_config = SettingsConfigDict(env_prefix="RS_EMBED_", env_nested_delimiter="__", frozen=True, extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then the YAML file that ``RS_EMBED_CONFIG`` or the flag names."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def load_settings(config: str | Path | None = None, *, flags: Mapping[str, object] | None = None) -> ServiceSettings:
    """The settings from defaults, a YAML file, the environment and flags, in that order.

    Args:
        config: the YAML file; None takes ``RS_EMBED_CONFIG`` where it is set.
        flags: parts of the tree that win over everything.

    Raises:
        pydantic.ValidationError: an unknown key or a value out of range; it names the path.
        FileNotFoundError: no such file.
    """
    path = config or os.environ.get("RS_EMBED_CONFIG")
    if path is not None and not Path(path).is_file():
        raise FileNotFoundError(f"there is no settings file {path}.")

    class Sources(_Sources):
        model_config = SettingsConfigDict(**{**_Sources.model_config, "yaml_file": path})

    read = Sources(**dict(flags or {}))  # type: ignore[arg-type]  # flags are checked by the model itself
    return ServiceSettings.model_validate(read.model_dump())


def prepare_ray_environment(settings: ServiceSettings) -> None:
    """Set what Ray reads from the environment, unless the operator has; call it before Ray is imported."""
    defaults = {
        "RAY_AUTH_MODE": "disabled",  # Ray 2.60 turns token mode on by itself; a cluster sets its own
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_DEDUP_LOGS_SKIP_REGEX": "ServeController",  # Serve ends its controller by force, and Ray reports it
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",  # a dead proxy is missed after three: by default half a minute
    }
    if settings.http.haproxy:
        defaults["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
        defaults["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "60"  # 5 s restarts a slow proxy in a loop
        # A router that comes or goes reloads HAProxy, and its old process ends then whatever streams it has.
        defaults["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] = str(round(settings.limits.timeout_s + 60))
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
