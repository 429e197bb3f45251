"""Runs the steps of the Dockerfile in a folder, where there is no container engine.

A folder stands for the root of the image: paths of ENV, WORKDIR and COPY lie in it, and RUN gets them through the
environment, as in the image. What needs the distribution itself (the stage ``system``, users) is not run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_STAGE = re.compile(r"FROM\s+(\S+)\s+AS\s+(\S+)")


@dataclass(frozen=True)
class Step:
    """One instruction, its lines joined."""

    word: str
    rest: str


@dataclass
class Stage:
    """The steps between two FROM."""

    name: str
    parent: str
    steps: list[Step] = field(default_factory=list)


def stages(text: str) -> dict[str, Stage]:
    """The stages of a Dockerfile by name."""
    found: dict[str, Stage] = {}
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    for line in filter(None, map(str.strip, joined.splitlines())):
        if begins := _STAGE.match(line):
            stage = found[begins[2]] = Stage(begins[2], begins[1])
        elif found:
            word, _, rest = line.partition(" ")
            stage.steps.append(Step(word, rest.strip()))
    return found


def environment(steps: Iterator[Step] | list[Step]) -> dict[str, str]:
    """What ENV, and ARG with a default, set."""
    out: dict[str, str] = {}
    for step in steps:
        if step.word in ("ENV", "ARG"):
            out |= dict(re.findall(r"(\w+)=(\S*)", step.rest))
    return out


class Builder:
    """Builds stages one after the other in one place, so that paths in them stay true when they are laid over it.

    Args:
        context: the source tree.
        folder: where images and the root are.
        outside: the environment that the commands need of this machine.
    """

    def __init__(self, text: str, context: Path, folder: Path, outside: Mapping[str, str]) -> None:
        self._stages = stages(text)
        self._context = context
        self._folder = folder
        self._outside = dict(outside)
        self.root = folder / "root"
        self.ran: list[str] = []

    def build(self, name: str) -> None:
        """Run a stage of ``installer`` in an empty root, and keep the root as the stage's image."""
        self.root.mkdir()
        self._run(name)
        self.root.rename(self._folder / name)

    def assemble(self, name: str) -> dict[str, str]:
        """Lay the images that a last stage copies over each other; the environment of what runs there."""
        self.root.mkdir()
        lines = [step for stage in self._lineage(name) for step in stage.steps]
        for step in lines:
            if step.word == "COPY" and (parts := step.rest.split())[0].startswith("--from="):
                image = self._folder / parts[0].removeprefix("--from=")
                if image.is_dir():
                    _lay_over(image / parts[1].lstrip("/"), self.root / parts[2].lstrip("/"))
        return self._in_root(environment(lines))

    def _lineage(self, name: str) -> list[Stage]:
        stage = self._stages[name]
        above = self._lineage(stage.parent) if stage.parent in self._stages else []
        return [*above, stage]

    def _run(self, name: str) -> None:
        steps = [step for stage in self._lineage(name) for step in stage.steps]
        settings = self._in_root(environment(steps))
        workdir = next(step.rest for step in reversed(steps) if step.word == "WORKDIR")
        here = self.root / workdir.lstrip("/")
        here.mkdir(parents=True)
        for step in self._stages[name].steps:
            if step.word == "COPY":
                self._copy(step.rest.split(), here)
            elif step.word == "RUN":
                self.ran.append(step.rest)
                subprocess.run(["bash", "-euo", "pipefail", "-c", step.rest], cwd=here, env=settings, check=True)

    def _copy(self, parts: list[str], here: Path) -> None:
        *sources, target = parts
        for source in sources:
            to = here / target
            if (self._context / source).is_dir():
                shutil.copytree(self._context / source, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                to = to / Path(source).name if target.endswith("/") else to
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self._context / source, to)

    def _in_root(self, settings: Mapping[str, str]) -> dict[str, str]:
        """An environment whose paths lie in the root; the commands of this machine stay within reach."""
        out = {
            name: str(self.root / value.lstrip("/")) if value.startswith("/") else value
            for name, value in settings.items()
            if name != "PATH"
        }
        folders = [str(self.root / folder.lstrip("/")) for folder in settings["PATH"].split(":")]
        return {**out, **self._outside, "PATH": os.pathsep.join([*folders, self._outside["PATH"]])}


def _lay_over(image: Path, root: Path) -> None:
    """Copy a tree over another as COPY does; hard links, because the files are gigabytes."""
    root.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--archive", "--link", "--force", "--no-target-directory", image, root], check=True)
