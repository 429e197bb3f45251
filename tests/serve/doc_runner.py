"""Runs the blocks of one page in order, as a reader would: one Python session, one folder.

A program, so that what a page changes (settings, registered models) ends with it. Reads
``{"fresh": bool, "blocks": [...]}`` and writes a list of ``{"output": ..., "error": ...}``, both JSON, the
second into the file that its argument names (Ray may write to the standard output at any time).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import yaml

from serve_app.cli import build_parser
from serve_app.commands.serve import settings_of
from serve_app.export.job import read_job
from serve_app.router import default_ask
from serve_app.settings import ServiceSettings, load_settings

_TIMEOUT_S = 120


class Own(io.StringIO):
    """What the page's own thread writes; Ray's threads say what they have to say on the real output."""

    def __init__(self) -> None:
        super().__init__()
        self._owner = threading.get_ident()

    def write(self, text: str) -> int:
        """Keep the text, or pass it on."""
        if threading.get_ident() != self._owner:
            return sys.__stdout__.write(text) if sys.__stdout__ is not None else len(text)
        return super().write(text)


def main() -> None:
    job = json.load(sys.stdin)
    session: dict[str, object] = {"__name__": "__main__"}
    found = []
    for block in job["blocks"]:
        if job["fresh"]:
            session = {"__name__": "__main__"}
        try:
            with contextlib.redirect_stdout(Own()) as said:
                output = run(block, session)
            found.append({"output": said.getvalue() if output is None else output, "error": None})
        except (Exception, SystemExit):  # noqa: BLE001 - the test says what went wrong
            found.append({"output": "", "error": traceback.format_exc()})
    Path(sys.argv[1]).write_text(json.dumps(found), "utf-8")


def run(block: dict[str, str | bool | int], session: dict[str, object]) -> str | None:
    """Do what a block says; its output where it does not print it."""
    code, kind = str(block["code"]), block["kind"]
    if kind == "python":
        compiled = compile("\n" * (int(block["line"]) - 1) + code, str(block["page"]), "exec")
        if block["runs"]:
            exec(compiled, session)  # noqa: S102 - the page's own code
    elif kind == "bash":
        return run_bash(code) if block["runs"] else check_bash(code)
    elif kind == "json":
        json.loads(code)
    elif kind == "yaml":
        check_yaml(code)
    return None


def run_bash(code: str) -> str:
    """Run a script; lines that would start a service are only read, so that the one of the tests is used."""
    lines = [line for line in code.replace("\\\n", " ").splitlines() if line.strip()]
    served = [line for line in lines if "rs-embed serve" in line]
    for line in served:
        check_serve(line)
    if served:
        assert served == lines, "a block that starts a service does nothing else"
        return ""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_bash(code: str) -> str:
    done = subprocess.run(["bash", "-n", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ""


def check_serve(line: str) -> None:
    """What ``rs-embed serve`` would serve, from its own parser, the file and the environment of the line."""
    words = shlex.split(line, comments=True)
    start = words.index("rs-embed")
    given = dict(word.split("=", 1) for word in words[:start])
    os.environ.update(given)
    try:
        for model in settings_of(build_parser().parse_args(words[start + 1 :])).models:
            default_ask(model)
    finally:
        for name in given:
            del os.environ[name]


def check_yaml(code: str) -> None:
    """A settings file, a job file or a Serve config, whose first line is its name; later blocks find it there."""
    name, content = code.splitlines()[0].removeprefix("# "), yaml.safe_load(code)
    assert name.endswith(".yaml"), "the first line of a YAML block names its file"
    if "applications" in content:
        from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415 - slow, and only this needs it

        for application in ServeDeploySchema.model_validate(content).applications:
            assert application.import_path == "serve_app.app:build"
            ServiceSettings.model_validate(application.args)
    elif "rois" in content:
        Path(name).write_text(code, "utf-8")
        job = read_job(name, {})
        assert job.asks()
        load_settings(flags=job.settings)
    else:
        Path(name).write_text(code, "utf-8")
        load_settings(name)


if __name__ == "__main__":
    main()
