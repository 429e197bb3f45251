"""How many rows the file of ROIs had in each run: rows that are appended leave the parts before them as they are."""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.export.store import Store

_ROWS = "_done/_rows.json"


def ends_of(store: Store, rows: int) -> tuple[int, ...]:
    """The numbers of rows that the file has had, ascending; the last is that of now.

    Of a file that has become shorter only those count that it still has.
    """
    known = (store.read_json(_ROWS) or {}).get("ends")
    before = {end for end in known if isinstance(end, int) and 0 < end < rows} if isinstance(known, list) else set()
    return (*sorted(before), rows)


def note_ends(store: Store, ends: Sequence[int]) -> None:
    """Keep them, before there is a file of these parts."""
    if (store.read_json(_ROWS) or {}).get("ends") != list(ends):
        store.write_json(_ROWS, {"ends": list(ends)})
