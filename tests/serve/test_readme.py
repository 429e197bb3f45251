"""Every block of code in the README and the guide does what the page says, against the service of these tests."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from serve_app.serving import Serving
from tests.serve.doc_blocks import KINDS, PAGES, PROJECT, Block, blocks_of, unread

_HERE = Path(__file__).parent
_BLOCKS = [block for page in PAGES for block in blocks_of(page)]
_TIMEOUT_S = 300
_WILD = "..."


def is_make(block: Block) -> bool:
    return block.kind == "bash" and any(line.startswith("make ") for line in block.code.splitlines())


class Reader:
    """Runs a page when its first block is asked for, and remembers what every block of it did."""

    def __init__(self, service: Serving, folder: Path) -> None:
        self._service = service
        self._folder = folder
        self._results: dict[str, dict[str, str | None]] = {}

    def result(self, block: Block) -> dict[str, str | None]:
        if block.name not in self._results:
            self._read(block.page)
        return self._results[block.name]

    def _read(self, page: str) -> None:
        blocks = [block for block in _BLOCKS if block.page == page and not is_make(block)]
        folder = self._folder / page.replace("/", "-")
        folder.mkdir()
        job = {"fresh": page == "README.md", "blocks": [vars(block) | {"code": self._here(block)} for block in blocks]}
        found = folder.with_suffix(".results.json")
        subprocess.run(
            [sys.executable, _HERE / "doc_runner.py", found],
            input=json.dumps(job),
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
            cwd=folder,
            env=self._environment(),
        )
        results = json.loads(found.read_text("utf-8"))
        self._results.update(zip((block.name for block in blocks), results, strict=True))

    def _here(self, block: Block) -> str:
        """The code with the address and the name of the service of these tests."""
        code = block.code.replace("http://127.0.0.1:8000", self._service.url)
        return code.replace("from_handle()", f'from_handle("{self._service.settings.name}")')

    def _environment(self) -> dict[str, str]:
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        address = ray.get_runtime_context().gcs_address
        quiet = {"RAY_SCHEDULER_EVENTS": "0"}  # other tests want more than this machine has; Ray would tell a job so
        return {**os.environ, "PATH": programs, "RAY_ADDRESS": address, "HF_HUB_OFFLINE": "1", **quiet}


@pytest.fixture(scope="session")
def reader(service: Serving, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(service, tmp_path_factory.mktemp("pages"))


@pytest.mark.parametrize("block", [b for b in _BLOCKS if not is_make(b)], ids=lambda block: block.name)
def test_block(block: Block, reader: Reader) -> None:
    result = reader.result(block)
    assert result["error"] is None, result["error"]
    if block.output is not None:
        assert matches(block.output, result["output"] or "")


def matches(wanted: str, found: str) -> bool:
    """Whether an output is the one shown; ``...`` stands for anything, also as a value in JSON."""
    try:
        return covers(json.loads(wanted), json.loads(found))
    except json.JSONDecodeError:
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        return doctest.OutputChecker().check_output(wanted, found, flags)


def covers(wanted: object, found: object) -> bool:
    if wanted == _WILD:
        return True
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(covers(wanted[key], found[key]) for key in wanted)
    return wanted == found


@pytest.mark.parametrize("block", [b for b in _BLOCKS if is_make(b)], ids=lambda block: block.name)
def test_make_block(block: Block) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for line in filter(str.strip, block.code.splitlines()):
        assert line.startswith("make "), "a block of make does nothing else"
        assert line.split()[1] in targets


@pytest.mark.parametrize("page", PAGES)
def test_page_is_read(page: str) -> None:
    assert unread(page) == 0
    assert {block.kind for block in blocks_of(page)} <= KINDS
