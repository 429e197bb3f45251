"""Numbers of NumPy as Python's own, for specs that are compared, hashed and written as JSON."""

from __future__ import annotations

import numpy as np


def plain(value: object) -> object:
    """The Python number (or text) of a NumPy scalar, which looping over a table gives; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def make_plain(spec: object) -> None:
    """Put Python numbers where a frozen spec was given NumPy's."""
    for name, value in tuple(vars(spec).items()):
        if isinstance(value, np.generic):
            object.__setattr__(spec, name, value.item())
