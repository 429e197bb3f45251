"""``ExportJob``: what an export is told, from a YAML file and flags; and the question to each of its models."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rs_embed_core.errors import InvalidRequest
from rs_embed_core.plan import recipe
from rs_embed_core.specs.request import Ask, ask_from_dict, beside_from
from serve_app.export.window import dated

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OWN_COLUMNS = {"index", "geometry", "bbox", "embedding", "meta"}
_HINT = "docs/guide/export.md describes the job file."
_SHARED = ("temporal", "fetch", "output", "input_prep", "backend")  # fields of an Ask that all models of a job share


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Workers(_Section):
    """The job's own encoders; what reads is told by the settings' ``fetch``."""

    encoders: int = Field(1, ge=1, description="Actors that compute; each holds every model of the job.")
    num_gpus: float = Field(0, ge=0, description="GPUs reserved for each of them.")
    num_cpus: float = Field(1, ge=0, description="CPUs reserved for each of them.")
    resources: Mapping[str, float] = Field({}, description="Custom Ray resources reserved for each of them.")
    device: str = Field("auto", description="auto (cuda with num_gpus, else cpu), cpu, cuda, mps.")
    precision: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Of the forward pass.")
    cpu_threads: int | None = Field(
        None, ge=1, description="Threads of a forward on the CPU; empty: num_cpus, at least 1."
    )
    wait_s: float = Field(
        3600, gt=0, description="Longest time without a node that could hold one of them; then the export fails."
    )
    tflops: float = Field(10, gt=0, description="What the device sustains, for the estimate of --dry-run.")

    def placed(self) -> Workers:
        """The same with a device: where no GPU is reserved, one that is there all the same is somebody else's."""
        return self.model_copy(update={"device": "cpu"}) if self.device == "auto" and not self.num_gpus else self


class ExportJob(_Section):
    """One export."""

    rois: str = Field(description="File of ROIs: GeoParquet, Parquet, CSV or GeoJSON; a path or a URL.")
    out: str = Field(description="Folder of the results; a path or a URL; {start} and {end} are those of the window.")
    models: tuple[str | Mapping[str, Any], ...] | Mapping[str, Mapping[str, Any]] = Field(
        min_length=1,
        description="Ids, or objects of model, model_config, modality; or a mapping from names of your own to those.",
    )
    temporal: Mapping[str, Any] | None = Field(
        None, description="{year: ...}; {start: ..., end: ...}; or {last_months: N}, the whole months before as_of."
    )
    as_of: dt.date | None = Field(None, description="Day that last_months counts back from; empty: today, UTC.")
    fetch: Mapping[str, Any] | None = Field(None, description="Light changes to the imagery, such as {scale_m: 20}.")
    output: Mapping[str, Any] | None = Field(None, description="{pooling: mean} or {pooling: max}.")
    input_prep: str | Mapping[str, Any] = Field("resize", description="resize, tile, auto, or an object.")
    backend: str = Field("auto", description="Where imagery comes from.")
    id_column: str | None = Field(None, description="Column of the file of ROIs that names each; written with its row.")
    keep: tuple[str, ...] = Field((), description="More of its columns that are written with each row.")
    part_rois: int = Field(1024, ge=1, description="ROIs of one file.")
    allowed_failures: float = Field(
        0, ge=0, description="Failures with which the exit code is still 0; below 1 a share of all rows."
    )
    read_timeout_s: float = Field(600, gt=0, description="Longest time for the reads of one ROI.")
    service: str | None = Field(None, description="Serve application that computes; empty computes in the job itself.")
    askers: int = Field(2, ge=1, description="Actors that ask the service.")
    workers: Workers = Field(Workers(), description="The job's own encoders.")
    settings: Mapping[str, Any] = Field(
        {}, description="Of providers, fetch and checkpoints: parts of the service's own settings."
    )

    @model_validator(mode="before")
    @classmethod
    def _window_of_the_day(cls, given: object) -> object:
        """What follows sees a window of dates, and a folder."""
        return dated(given) if isinstance(given, Mapping) else given

    @field_validator("temporal", mode="before")
    @classmethod
    def _dates_as_text(cls, value: object) -> object:
        """YAML makes a date of what looks like one."""
        if not isinstance(value, Mapping):
            return value
        return {key: day.isoformat() if isinstance(day, dt.date) else day for key, day in value.items()}

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of the file of ROIs that go along."""
        return tuple(dict.fromkeys((*(() if self.id_column is None else (self.id_column,)), *self.keep)))

    @model_validator(mode="after")
    def _columns_have_names_of_their_own(self) -> Self:
        if taken := sorted(set(self.columns) & _OWN_COLUMNS):
            msg = f"{', '.join(taken)} is a column that every result has"
            raise ValueError(msg)
        return self

    def asks(self) -> dict[str, Ask]:
        """The question to each model, by the name of its folder; each knows the others, to share reads with them.

        Raises:
            InvalidRequest: grids, a name that is no folder's, or one model twice.
            ModelError: no such model, variant, modality or option.
        """
        shared = {name: vars(self)[name] for name in _SHARED if vars(self)[name] is not None}
        who = beside_from(self._models())
        asks = {}
        for place, own in enumerate(who):
            others = [other for other in who if other is not own]
            fields = {"model": own.model, "model_config": dict(own.model_config), "modality": own.modality}
            ask = ask_from_dict({**shared, **fields, "beside": others})
            name = self._name(place, ask)
            if name in asks:
                msg = f"{name} is named twice."
                raise InvalidRequest(msg, hint="Make models a mapping from names of your own.")
            asks[name] = ask
        if any(ask.output.mode != "pooled" for ask in asks.values()):
            raise InvalidRequest("output is a grid.", hint="An export writes vectors: leave out mode.")
        return asks

    def _models(self) -> list[object]:
        if isinstance(self.models, Mapping):
            return [{"model": name, **given} for name, given in self.models.items()]
        return list(self.models)

    def _name(self, place: int, ask: Ask) -> str:
        """The caller's own name, or that of model and variant."""
        selection = recipe(ask).selection
        if not isinstance(self.models, Mapping):
            return selection.encoder
        name = list(self.models)[place]
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"{name!r} is the name of a model.", hint="It is a folder's: letters, digits, ._-")
        return name


def read_job(path: str | Path | None, flags: Mapping[str, object]) -> ExportJob:
    """The job of a YAML file, with flags on top.

    Raises:
        InvalidRequest: no such file, no YAML, an unknown key or a value out of range.
    """
    given: object = {}
    if path is not None:
        try:
            given = yaml.safe_load(Path(path).read_text("utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise InvalidRequest(f"the job file {path} cannot be read: {error}", hint=_HINT) from error
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"the job file {path} has no keys.", hint=_HINT)
    return checked_job({**given, **flags})


def checked_job(given: Mapping[str, object]) -> ExportJob:
    """The job of these keys.

    Raises:
        InvalidRequest: an unknown key or a value out of range.
    """
    try:
        return ExportJob.model_validate(given)
    except ValidationError as error:
        raise InvalidRequest(f"the job is wrong: {_mistakes(error.errors())}.", hint=_HINT) from error


def _mistakes(errors: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong, each with its key; a mistake between several keys has none."""
    said = ((".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in errors)
    return "; ".join(f"{key}: {text}" if key else text for key, text in said)
