"""``Values``: what a platform engineer says of one installation on Kubernetes; everything else follows from it."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from rs_embed_core.errors import InvalidRequest
from serve_app.kubernetes.devices import Gpu

EE_REQUESTS_AT_ONCE = 40  # of a project that Google has not given more (earthengine/guides/usage)

_IMAGE = r"^[^@\s]+(:[\w.-]+|@sha256:[0-9a-f]{64})$"  # with a tag or a digest
_ADDRESS = re.compile(r"^[\w.-]+:\d{4,5}$")  # a port, where an image's tag stands; no folder of a registry before it
_LEAST_SHARE = 0.2  # a process each: CUDA's context, and CPUs to feed it

type ProviderName = Literal["gee", "stac", "synthetic"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageValues(_Section):
    """The image that all pods run."""

    name: str = Field("rs-embed-serve", description="Where the cluster pulls it from, without tag.")
    tag: str | None = Field(None, min_length=1, description="Its tag; never latest.")
    digest: str | None = Field(
        None, pattern="^sha256:[0-9a-f]{64}$", description="Its digest, which wins over the tag."
    )

    @model_validator(mode="after")
    def _is_one_image(self) -> Self:
        if self.tag is None and self.digest is None:
            raise ValueError("neither tag nor digest is given.")
        if self.tag == "latest":
            raise ValueError("latest is another image tomorrow: give a tag that stays, or a digest.")
        return self


class Replicas(_Section):
    """How many copies of a model run."""

    min: int = Field(1, ge=0, description="Kept; 0 lets the model sleep, and its GPU go.")
    max: int = Field(1, ge=1, description="Under load.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}.")
        return self


def _replicas(value: object) -> object:
    """A plain number means: always so many."""
    plain = isinstance(value, int) and not isinstance(value, bool)
    return {"min": value, "max": value} if plain else value


class ModelValues(_Section):
    """One model variant to serve."""

    model: str = Field(description="Model id or alias, as in the catalogue.")
    variant: str | None = Field(None, description="Variant; empty takes the model's default.")
    replicas: Annotated[Replicas, BeforeValidator(_replicas)] = Field(
        Replicas(min=1, max=1), description="A number, or {min: 0, max: 4}."
    )
    gpus: float | None = Field(
        None, ge=0, le=1, description="Part of a GPU for each replica, at least 0.2; empty takes one if there are any."
    )
    cpus: int | None = Field(None, ge=1, description="CPUs for each replica; empty takes 4 for a GPU, 2 without.")
    precision: Literal["float32", "bfloat16", "float16"] = Field("float32", description="As in the settings.")
    batch_size: int | None = Field(None, ge=1, description="As in the settings.")

    @model_validator(mode="after")
    def _share_is_usable(self) -> Self:
        if self.gpus is not None and 0 < self.gpus < _LEAST_SHARE:
            raise ValueError(f"gpus is {self.gpus:g}: at most five replicas share a GPU, so it is 0 or at least 0.2.")
        return self


class ProviderValues(_Section):
    """Where imagery comes from."""

    name: ProviderName = Field("synthetic", description="gee, stac or synthetic.")
    project: str | None = Field(None, description="Google Cloud project that Earth Engine is used under.")
    quota: int = Field(EE_REQUESTS_AT_ONCE, ge=1, description="Requests at once that Google allows the project.")
    at_once: int | None = Field(None, ge=1, description="Of these for this installation; empty takes four fifths.")
    credentials: Literal["workload-identity", "key"] = Field(
        "workload-identity", description="Whose identity fetch pods have: a lent one, or a key file in a Secret."
    )
    service_account: str | None = Field(
        None,
        description="Google service account that Workload Identity lends to fetch pods, for Earth Engine and buckets.",
    )

    @model_validator(mode="after")
    def _earth_engine(self) -> Self:
        if self.name == "gee" and self.project is None:
            raise ValueError("project is missing: Earth Engine is used under one.")
        if self.name != "gee" and (self.project or self.credentials == "key"):
            raise ValueError(f"project and credentials are Earth Engine's; the name is {self.name}.")
        if self.service_account is not None and self.credentials == "key":
            raise ValueError("service_account is for Workload Identity; with a key file it is the key's.")
        return self


class FetchValues(_Section):
    """The fetch actors: imagery is read and prepared there."""

    actors: int = Field(4, ge=1, description="Fetch actors, four on a pod.")
    concurrency: int | None = Field(
        None, ge=1, description="Reads under way in each; empty divides what the provider allows, or takes 16."
    )


class RedisValues(_Section):
    """A Redis of yours, outside of these manifests; its password is in the Secret rs-embed-redis."""

    address: str = Field(pattern=r"^(rediss?://)?[\w.-]+:\d+$", description="host:port, or rediss://host:port for TLS.")
    cidr: IPv4Network | IPv6Network = Field(description="Addresses that head pods may ask there, such as 10.1.2.0/29.")

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rpartition(":")[2])


class Values(_Section):
    """One installation."""

    image: ImageValues = Field(description="The image.")
    models: Annotated[tuple[ModelValues, ...], Field(min_length=1)] = Field(description="Model variants to serve.")
    namespace: str = Field(
        "rs-embed", pattern="^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="Namespace of everything."
    )
    gpu: Gpu | None = Field(None, description="GPUs; empty runs every model on CPUs.")
    provider: ProviderValues = Field(ProviderValues(), description="Imagery.")
    fetch: FetchValues = Field(FetchValues(), description="The fetch actors.")
    routers: int = Field(2, ge=1, description="Routers, each on a pod of its own.")
    weights: Literal["image", "pvc", "cache"] = Field("image", description="What holds /weights.")
    storage_class: str | None = Field(
        None, min_length=1, description="Storage class of weights: pvc, with ReadWriteMany; empty takes the cluster's."
    )
    redis: bool | Annotated[str, Field(pattern=_IMAGE)] | RedisValues = Field(
        False,
        description="Let the service outlive its head (GCS fault tolerance): true, an image of it, or where yours is.",
    )
    monitoring: bool = Field(False, description="Pod monitors, rules and the dashboard for Prometheus and Grafana.")
    gateway: bool | Annotated[str, Field(min_length=1)] = Field(
        False, description="Upgrades step by step behind a Gateway: true, or the class of your Gateway API."
    )
    export: Mapping[str, Any] | None = Field(  # Any: JSON, which ExportJob checks
        None, description="Bulk exports: the job file of docs/guide/export.md; what it leaves out is as of the service."
    )
    settings: Mapping[str, Any] = Field(  # Any: JSON, which ServiceSettings checks
        {}, description="Further settings of the service, as in docs/reference/settings.md; they win."
    )

    @model_validator(mode="after")
    def _settings_are_further_ones(self) -> Self:
        if said_above := sorted({"name", "models"} & set(self.settings)):
            raise ValueError(f"settings.{said_above[0]} is not for here: everything else follows from it.")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.storage_class is not None and self.weights != "pvc":
            raise ValueError("storage_class is of the volume of weights: say weights: pvc, or leave it out.")
        if self.export is not None and self.gpu is None:
            raise ValueError("export: exports compute on GPUs here: say gpu.type and gpu.count.")
        if self.provider.service_account is not None and self.provider.name != "gee" and self.export is None:
            raise ValueError(
                "provider.service_account is for Earth Engine and the buckets of exports: there is neither."
            )
        if isinstance(self.redis, str) and self.redis.endswith(":latest"):
            raise ValueError("redis: latest is another image tomorrow: give a tag that stays, or a digest.")
        if isinstance(self.redis, str) and _ADDRESS.match(self.redis):
            raise ValueError("redis: that is an address and no image: say redis: {address: ..., cidr: ...}.")
        return self

    @property
    def quota_of_cluster(self) -> int:
        """What one Ray cluster may ask of Earth Engine at once: with a gateway two serve during an upgrade."""
        return max(1, self.provider.quota // 2) if self.gateway else self.provider.quota


def read_values(path: str | Path) -> Values:
    """The values of a file.

    Raises:
        InvalidRequest: not YAML, an unknown key, or a value that cannot be; one line that says which.
        OSError: the file cannot be read.
    """
    try:
        content = yaml.safe_load(Path(path).read_text("utf-8"))
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path} is not YAML: {error}.", hint="Correct it and try again.") from error
    if not isinstance(content, dict):
        msg = f"{path} holds no mapping of values."
        raise InvalidRequest(msg, hint="It has at least image and models; docs/kubernetes.md shows one.")
    try:
        return Values.model_validate(content)
    except ValidationError as error:
        msg = f"{path} is wrong: {'; '.join(mistakes(error, Values))}."
        raise InvalidRequest(msg, hint="docs/kubernetes.md lists all values.") from error


def mistakes(error: ValidationError, tree: type[BaseModel], under: Sequence[str] = ()) -> Iterator[str]:
    """Yield what is wrong, with its path; of an unknown key the nearest that there is.

    Args:
        under: the path of the tree itself.
    """
    for mistake in error.errors():
        path = [*under, *map(str, mistake["loc"])]
        what = mistake["msg"].removeprefix("Value error, ").rstrip(".")
        if mistake["type"] == "extra_forbidden":
            known = _keys_at(tree, mistake["loc"][:-1])
            near = difflib.get_close_matches(path[-1], known, n=1)
            what = f"there is no such key; {f'did you mean {near[0]}?' if near else 'known are ' + ', '.join(known)}"
        yield f"{'.'.join(path)}: {what}" if path else what


def _keys_at(tree: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that a part of a tree of sections has."""
    for step in path:
        if isinstance(step, str) and step in tree.model_fields:
            tree = next(_sections(tree.model_fields[step].annotation), tree)
    return list(tree.model_fields)


def _sections(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the sections that an annotation speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _sections(part)
