"""A progress bar for long batches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from serve_app.client.calls import StreamItem

_LONG = 32  # ROIs; fewer are done before a bar is read

type Count = Callable[[Iterable[StreamItem]], None]


@contextmanager
def progress_bar(total: int, *, wanted: bool | None) -> Iterator[Count]:
    """A function that counts items on a bar while the block runs.

    Args:
        total: ROIs of the batch.
        wanted: None draws a bar for a long batch on a terminal.
    """
    if wanted is None:
        wanted = total >= _LONG and sys.stderr.isatty()
    if not wanted:
        yield lambda _: None
        return
    from tqdm import tqdm  # noqa: PLC0415 - only where a bar is drawn

    failed = 0
    with tqdm(total=total, unit="ROI", desc="embedding", file=sys.stderr) as bar:

        def count(items: Iterable[StreamItem]) -> None:
            nonlocal failed
            for item in items:
                if item.error is not None:
                    failed += 1
                    bar.set_postfix(failed=failed, refresh=False)
                bar.update()

        yield count
