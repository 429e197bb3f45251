"""Small HTML pages: the landing page, and one page per problem. No script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from starlette.responses import HTMLResponse

from serve_app.wire.problems import Page

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;"
    "color:#1b1b1b;background:#fff}"
    "pre{background:#f3f3f3;padding:1rem;overflow:auto}code{background:#f3f3f3}pre code{background:none}"
    "@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}pre,code{background:#262626}"
    "a{color:#8ab4f8}}"
)


def response(page: str) -> HTMLResponse:
    """A page as a response that may load nothing."""
    return HTMLResponse(page, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"})


def landing(base_url: str) -> str:
    """Where to go from here, and a request to copy."""
    body = '{"model": "mosaiks", "spatial": {"lon": 11.58, "lat": 48.14, "buffer_m": 640}}'
    curl = f"curl --json '{body}' {base_url}/v1/embeddings"
    python = (
        "from serve_app.client import EmbeddingClient\n"
        "from rs_embed_core import PointBuffer\n\n"
        f'client = EmbeddingClient("{base_url}")\n'
        'client.get_embedding("mosaiks", spatial=PointBuffer(11.58, 48.14, 640))'
    )
    links = {
        "/v1/models": "the models, what they accept and which are up",
        "/docs": "every route, to try out",
        "/openapi.json": "the same for programs",
        "/readyz": "whether the models are up",
        "/problems": "what errors mean",
    }
    items = "".join(f'<li><a href="{path.lstrip("/")}">{path}</a> {text}</li>' for path, text in links.items())
    return _page(
        "Earth embeddings",
        f"<p>A place and a time go in, vectors come out: many models, one interface.</p><ul>{items}</ul>"
        f"<h2>Ask</h2><pre><code>{escape(curl)}</code></pre><h2>From Python</h2>"
        f"<pre><code>{escape(python)}</code></pre>",
    )


def problem_index(pages: Mapping[str, Page]) -> str:
    """All problems, by status."""
    rows = sorted(pages.values(), key=lambda page: (page.status, page.code))
    items = "".join(f"<li>{page.status} {_link('problems/', page.code)} {escape(page.title)}</li>" for page in rows)
    return _page("Problems", f"<p>What the codes of error responses mean.</p><ul>{items}</ul>")


def problem(page: Page) -> str:
    """What a problem means and what to do about it."""
    again = "The same request may succeed later." if page.retryable else "The same request will fail in the same way."
    parent = ""
    if page.parent is not None:
        parent = f"<p>A kind of {_link('', page.parent)}.</p>"
    return _page(
        page.title,
        f"<p>Code <code>{escape(page.code)}</code>, status {page.status}, "
        f"in Python <code>{escape(page.name)}</code>.</p>"
        f"<p>{_code(page.meaning)}</p><p>{_code(page.advice)}</p><p>{again}</p>{parent}"
        '<p><a href="../problems">All problems</a></p>',
    )


def _link(folder: str, code: str) -> str:
    return f'<a href="{folder}{escape(code)}">{escape(code)}</a>'


def _code(text: str) -> str:
    """Plain text as HTML; what stands in backticks becomes code."""
    parts = escape(text).replace("``", "`").split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<title>{escape(title)} - rs-embed-serve</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>"
    )
