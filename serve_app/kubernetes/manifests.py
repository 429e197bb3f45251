"""The folder ``k8s/`` of the source tree: what an overlay starts from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from rs_embed_core.errors import Unsupported
from serve_app.kubernetes.settings import Tree

_UNITS_MB = {"Ki": 2**10 / 1e6, "Mi": 2**20 / 1e6, "Gi": 2**30 / 1e6, "Ti": 2**40 / 1e6}


def megabytes(quantity: str) -> float:
    """An amount of bytes as Kubernetes writes it (``10Gi``), in 10^6 bytes."""
    return float(quantity[:-2]) * _UNITS_MB[quantity[-2:]]


@dataclass(frozen=True)
class Manifests:
    """The folder and what stands in it."""

    root: Path

    @property
    def serve(self) -> Tree:
        """The Serve config of k8s/base.

        Raises:
            Unsupported: this is not that folder.
        """
        return self._read("base/serve.yaml")

    def resources(self, place: int) -> Tree:
        """Ray's resources of one pod of a worker group of k8s/base.

        Raises:
            Unsupported: this is not that folder.
        """
        resources: Tree = self._group(place)["resources"]
        return resources

    def volume_mb(self, place: int, name: str) -> float:
        """What a volume of one pod of a worker group of k8s/base may hold.

        Raises:
            Unsupported: this is not that folder.
        """
        volumes = self._group(place)["template"]["spec"]["volumes"]
        (limit,) = (volume["emptyDir"]["sizeLimit"] for volume in volumes if volume["name"] == name)
        return megabytes(limit)

    def memory(self, place: int) -> str:
        """The memory of one pod of a worker group of k8s/base, as Kubernetes writes it.

        Raises:
            Unsupported: this is not that folder.
        """
        (container,) = self._group(place)["template"]["spec"]["containers"]
        return str(container["resources"]["limits"]["memory"])

    def without_gpus(self) -> Iterator[Tree]:
        """Yield the patches that make the group of GPUs one of CPUs, with their text in them.

        They are those of k8s/overlays/cpu-only: kustomize reads no file outside an overlay's own folder.

        Raises:
            Unsupported: this is not that folder.
        """
        overlay = "overlays/cpu-only"
        for patch in self._read(f"{overlay}/kustomization.yaml")["patches"]:
            path = patch.get("path")
            yield patch if path is None else {"target": patch["target"], "patch": self._text(f"{overlay}/{path}")}

    def component(self, name: str, out: Path) -> str:
        """A component's path as seen from an overlay.

        Raises:
            Unsupported: there is no such component.
        """
        self._text(f"components/{name}/kustomization.yaml")
        return self.seen_from(out, f"components/{name}")

    def seen_from(self, out: Path, part: str) -> str:
        """The relative path of a part, which is what kustomize takes."""
        return Path(os.path.relpath(self.root / part, out)).as_posix()

    def _group(self, place: int) -> Tree:
        groups: list[Tree] = self._read("base/rayservice.yaml")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        return groups[place]

    def _read(self, name: str) -> Tree:
        content: Tree = yaml.safe_load(self._text(name))
        return content

    def _text(self, name: str) -> str:
        path = self.root / name
        if not path.is_file():
            msg = f"there is no {path}."
            raise Unsupported(msg, hint="Say with --manifests where the folder k8s/ of the source tree is.")
        return path.read_text("utf-8")
