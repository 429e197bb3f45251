"""docs/reference/metrics.md, from the table in serve_app/observe/metrics.py."""

from __future__ import annotations

from itertools import groupby

from docs_text import code, note, table

from serve_app.observe import metrics

_HEAD = """# Metrics

What Prometheus sees on the metrics port (8080) of every Ray node, beside Ray's and Serve's own. Labels that Ray adds:
`WorkerId` (the process), `NodeAddress`, `SessionName`, `Version`. A gauge is one process's own: add up over `WorkerId`.
Of histograms only `_bucket` and `_count` are true: Ray makes up `_sum` (the middle of its bucket for each value), so
what is worth adding up has a counter. [Watching it](../guide/operations.md#watching-it) says how to read them,
[Runbooks](../runbooks.md) what to do.

- `application`: the Serve application, or `export`; a label of every metric.
- `model`: name of the encoder deployment, as `dofa-large`.
- `provider`: the backend that imagery came from.
- `outcome`: `ok` or the code of a [problem](problems.md); `fault`: `nobody`, `caller` (the problem's status is 4xx; a
  place without imagery is one of these) or `service`.

"""


def page() -> str:
    """The page: a table for each stage, in the order of the way of the data."""
    parts = []
    for stage, measures in groupby(metrics.ALL, key=lambda measure: measure.stage):
        rows = [("metric", "kind", "labels", "what it says")]
        for measure in measures:
            name = measure.exported[0].removesuffix("_bucket")
            rows.append((code(name), measure.kind, ", ".join(map(code, measure.labels)), measure.doc))
        parts.append(f"## {stage}\n\n{table(rows)}")
    return note("serve_app/observe/metrics.py") + _HEAD + "\n".join(parts)
