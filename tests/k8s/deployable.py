"""A cluster's Serve config made fit for this machine: no GPU, no weights, synthetic imagery, its own port and folder.

Everything else stays as it is: the way it is built, scaled, placed and drained.
"""

from __future__ import annotations

import copy
from pathlib import Path

from serve_app.router import default_ask
from serve_app.settings import ModelSettings
from tests.k8s.manifests import Doc
from tests.k8s.serve_config import application

_ANSWERS = ("mosaiks", "gaussian")  # needs no weights
_SILENT = ("galileo", "nano")  # has none here: its replica is up and says so
_ENCODER = "mosaiks-gaussian"


def fit(config: Doc, *, port: int, folder: Path, delay_ms: float = 0) -> Doc:
    """The config with everything replaced that this machine lacks."""
    config = copy.deepcopy(config)
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    app = application(config)
    args = app["args"]
    names = {}
    for model, (family, variant) in zip(args["models"], (_ANSWERS, _SILENT), strict=False):
        before = _deployment(model)
        model |= {"model": family, "variant": variant, "num_gpus": 0, "num_cpus": 0.5, "cpu_threads": 1}
        model |= {"precision": "float32"}
        names[before] = _deployment(model)
    args["models"] = args["models"][: len(names)]
    args["fetch"] |= {"actors": 2, "num_cpus": 0.5}
    if "cache" in args["fetch"]:
        args["fetch"]["cache"]["disk_path"] = str(folder / "chips")
    args["providers"] = {"synthetic_delay_ms": delay_ms}
    args["checkpoints"] = {"root": str(folder / "weights"), "offline": True}
    app["deployments"] = [
        entry | {"name": names.get(entry["name"], entry["name"])}
        for entry in app["deployments"]
        if entry["name"] in {*names, "router"}
    ]
    return config


def _deployment(model: Doc) -> str:
    return default_ask(ModelSettings.model_validate(model))[1].encoder


def with_batch_size(config: Doc, size: int) -> Doc:
    """The same with another ``user_config`` of the encoder: a change in place."""
    config = copy.deepcopy(config)
    entries = application(config)["deployments"]
    if not any(entry["name"] == _ENCODER for entry in entries):
        entries.append({"name": _ENCODER})
    for entry in entries:
        if entry["name"] == _ENCODER:
            entry["user_config"] = {"batch_size": size}
    return config
