"""Numbers of NumPy as Python's own, for specs that are compared, hashed and written as JSON.

Whoever has one has loaded NumPy. It is not loaded here: it is half the time of a command that only prints its help.
"""

from __future__ import annotations

import sys


def plain(value: object) -> object:
    """The Python number (or text) of a NumPy scalar, which looping over a table gives; anything else as it is."""
    numpy = sys.modules.get("numpy")
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value


def make_plain(spec: object) -> None:
    """Put Python numbers where a frozen spec was given NumPy's."""
    for name, value in tuple(vars(spec).items()):
        if (number := plain(value)) is not value:
            object.__setattr__(spec, name, number)
