"""Stage stream: what all three encodings of a reply share: its problems and its summary."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rs_embed_core.errors import IncompleteStream, JSONValue, RSEmbedError
from serve_app.wire.problems import problem_json, to_problem
from serve_app.wire.rows import Job, Row


@dataclass(frozen=True)
class Reply:
    """How one request is answered.

    Attributes:
        job: the request.
        uniform: all grids will have one shape (``shapes.is_uniform``); one that differs becomes a problem.
        instance: the request id, said in problems.
    """

    job: Job
    uniform: bool = False
    instance: str | None = None

    def problem(self, row: Row) -> bytes | None:
        """The problem of a row as JSON text; None if the row has numbers."""
        if row.data is not None:
            return None
        error = row.error or RSEmbedError("the service returned neither numbers nor an error.")
        pointer = "/spatial" if self.job.single else f"/spatials/{row.index}"
        return problem_json(to_problem(error, instance=self.instance, pointer=pointer))


@asynccontextmanager
async def closing(rows: AsyncIterator[list[Row]]) -> AsyncGenerator[None]:
    """Close the rows afterwards, however it ends, so that a caller who leaves stops the work."""
    try:
        yield
    finally:
        if isinstance(rows, AsyncGenerator):
            await rows.aclose()


@dataclass
class Summary:
    """How many rows a stream had, how many of them problems: written at its end, checked by readers."""

    rows: int = 0
    problems: int = 0

    def count(self, rows: int, problems: int) -> None:
        """Add some rows, ``problems`` of them failed."""
        self.rows += rows
        self.problems += problems

    def to_dict(self) -> dict[str, JSONValue]:
        """The JSON form; as an Arrow stream's metadata its values are text."""
        return {"status": "complete", "rows": self.rows, "problems": self.problems}

    def check(self, said: Mapping[str, object] | None) -> None:
        """Compare what arrived, counted here, with what the stream's end said.

        Raises:
            IncompleteStream: there was no end, or it counted other rows.
        """
        if said is None:
            raise self.cut()
        expected = {name: str(value) for name, value in self.to_dict().items()}
        if {name: str(said.get(name)) for name in expected} != expected:
            raise self.cut(f" The service counted {said.get('rows')}, {said.get('problems')} of them problems.")

    def cut(self, more: str = "") -> IncompleteStream:
        """The error of a stream that ended after the rows counted here."""
        end = more or " Its summary is missing."
        msg = f"the result stream ended after {self.rows} rows, {self.problems} of them problems.{end}"
        return IncompleteStream(msg, hint="Ask again for the missing ROIs.", context={"rows": self.rows})
