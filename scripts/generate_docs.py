"""Writes the pages that the code can write by itself; ``--check`` says which of them are stale.

The README's table of models, and in docs/reference: models.md from the cards, settings.md from
``ServiceSettings``, metrics.md from the table of metrics, cli.md from the commands' own help, problems.md
from the tree of errors, openapi.json from the HTTP application.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import docs_metrics
import docs_models
import docs_settings
from docs_text import code, note, table

from serve_app.cli import build_parser
from serve_app.http.app import build_http
from serve_app.settings import ServiceSettings
from serve_app.wire.problems import Page, problem_pages
from serve_app.wire.rows import Service
from serve_app.wire.schemas import Limits

PROJECT = Path(__file__).resolve().parents[1]
README = PROJECT / "README.md"
REFERENCE = PROJECT / "docs" / "reference"
HELP_COLUMNS = "100"
PROBLEMS_INTRO = """# Problems

Every error is an RFC 9457 object, `application/problem+json`. `type` names one of the pages below, which the
service also serves at `/problems/{code}`; `code` may be finer than its page. The Python client raises the
class again. Every class is a `SpecError`, a `ModelError` or a `ProviderError`, and those are `RSEmbedError`.

In a reply to many ROIs, an ROI that failed has its problem at its `index`, and the others go on.

"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write what is stale, or with ``--check`` name it and return 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a page is stale")
    check = parser.parse_args(argv).check
    wanted = dict(pages())
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in stale:
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], "utf-8")
        print(f"{'stale' if check else 'wrote'}: {path.relative_to(PROJECT)}")
    if check and stale:
        print("make docs writes them.", file=sys.stderr)
    return int(check and bool(stale))


def pages() -> Iterator[tuple[Path, str]]:
    """Yield every generated file with the text that it should have."""
    yield README, between(README.read_text("utf-8"), "models", docs_models.readme_table())
    yield REFERENCE / "models.md", docs_models.page()
    yield REFERENCE / "settings.md", docs_settings.page()
    yield REFERENCE / "metrics.md", docs_metrics.page()
    yield REFERENCE / "cli.md", cli_page()
    yield REFERENCE / "problems.md", problems_page()
    yield REFERENCE / "openapi.json", openapi()


def between(text: str, name: str, content: str) -> str:
    """The text with new content between ``<!-- name ... -->`` and ``<!-- /name -->``."""
    pattern = re.compile(rf"(<!-- {name}\b[^>]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"README.md must have <!-- {name} --> and <!-- /{name} --> once.")
    return pattern.sub(lambda found: f"{found[1]}\n{content}\n{found[2]}", text)


def cli_page() -> str:
    """The help of every command, as the commands print it."""
    os.environ["COLUMNS"] = HELP_COLUMNS
    parser = build_parser()
    parts = [f"# Command line\n\n```text\n{parser.format_help()}```\n"]
    for name, command in subcommands(parser).items():
        parts.append(f"## rs-embed {name}\n\n```text\n{command.format_help()}```\n")
    return note("the commands' --help") + "\n".join(parts)


def subcommands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The parsers of the commands by name."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to list them
        if isinstance(action.choices, dict):
            return cast("Mapping[str, argparse.ArgumentParser]", action.choices)
    raise SystemExit("rs-embed has no commands.")


def problems_page() -> str:
    """What every problem means and what to do about it."""
    found = sorted(problem_pages().values(), key=lambda page: (page.status, page.code))
    rows = [("status", "code", "Python class", "may succeed later", "title")]
    for page in found:
        again = "yes" if page.retryable else "no"
        link = f"[{code(page.code)}](#{page.code})"
        rows.append((str(page.status), link, code(page.name), again, page.title))
    head = note("rs_embed_core/errors.py and serve_app/wire/problems.py") + PROBLEMS_INTRO + table(rows)
    return "\n".join([head, *map(problem_section, found)])


def problem_section(page: Page) -> str:
    """One problem."""
    again = "The same request may succeed later." if page.retryable else "The same request will fail again."
    parent = f" A kind of [{code(page.parent)}](#{page.parent})." if page.parent else ""
    meaning = page.meaning.replace("``", "`")
    return (
        f"## {page.code}\n\nStatus {page.status}, in Python {code(page.name)}.{parent}\n\n"
        f"{meaning}\n\n{page.advice} {again}\n"
    )


def openapi() -> str:
    """The OpenAPI document of a service with default settings."""
    limits = ServiceSettings().limits
    nobody = cast("Service", None)  # only asked when a request comes
    app = build_http(nobody, Limits(max_rois=limits.max_rois, max_body_mb=limits.max_body_mb))
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
