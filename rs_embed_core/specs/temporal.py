"""When: ``TemporalSpec``, a half-open window of dates or a calendar year."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, overload

from rs_embed_core.errors import InvalidRequest, JSONValue
from rs_embed_core.specs.plain import make_plain

_FIRST_YEAR, _LAST_YEAR = 1972, 2100  # Landsat 1 was launched in 1972; nothing was seen before it


class _YearMember:
    """``TemporalSpec.year(2022)`` builds a spec, ``spec.year`` reads its field.

    Upstream the field's default *is* the constructor, so ``TemporalSpec.range(...).year`` is a function there.
    """

    @overload
    def __get__(self, spec: None, owner: type[TemporalSpec]) -> Callable[[int], TemporalSpec]: ...
    @overload
    def __get__(self, spec: TemporalSpec, owner: type[TemporalSpec]) -> int | None: ...
    def __get__(
        self, spec: TemporalSpec | None, owner: type[TemporalSpec]
    ) -> Callable[[int], TemporalSpec] | int | None:
        if spec is None:
            return lambda year: owner("year", year=year)
        value: int | None = spec.__dict__["year"]
        return value

    def __set__(self, spec: TemporalSpec, value: int | None) -> None:
        spec.__dict__["year"] = value


@dataclass(frozen=True, init=False)
class TemporalSpec:
    """A window in time; build it with ``TemporalSpec.range(start, end)`` or ``TemporalSpec.year(year)``.

    ``start`` and ``end`` are ISO dates, start inclusive, end exclusive.

    Raises:
        InvalidRequest: not dates, reversed or empty, or a year outside 1972..2100.
    """

    mode: Literal["range", "year"]
    year: _YearMember = _YearMember()
    start: str | None = None
    end: str | None = None

    def __init__(
        self,
        mode: Literal["range", "year"],
        year: int | None = None,
        start: str | None = None,
        end: str | None = None,
    ) -> None:
        if mode not in ("range", "year"):
            msg = f"temporal mode is {mode!r}."
            raise InvalidRequest(msg, hint="Use TemporalSpec.range(start, end) or TemporalSpec.year(year).")
        object.__setattr__(self, "mode", mode)
        object.__setattr__(self, "year", year)
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)
        make_plain(self)
        year = vars(self)["year"]
        if mode == "year":
            self._check_year(year)
            if start is not None or end is not None:
                msg = "a year window has start or end."
                raise InvalidRequest(msg, hint="Give either a year, or start and end.")
        else:
            self._check_range(year, start, end)

    @staticmethod
    def _check_year(year: object) -> None:
        whole = isinstance(year, int) and not isinstance(year, bool)
        if not whole or not _FIRST_YEAR <= year <= _LAST_YEAR:  # type: ignore[operator]  # whole says int
            msg = f"year is {year!r}."
            raise InvalidRequest(msg, hint=f"A year is a whole number in {_FIRST_YEAR}..{_LAST_YEAR}.")

    @staticmethod
    def _check_range(year: int | None, start: object, end: object) -> None:
        if year is not None:
            msg = "a range window has a year."
            raise InvalidRequest(msg, hint="Give either a year, or start and end.")
        first, last = _date("start", start), _date("end", end)
        if first >= last:
            msg = f"start {start} is not before end {end}."
            raise InvalidRequest(msg, hint="The window is half-open: end is the first day outside it.")

    @classmethod
    def range(cls, start: str, end: str) -> TemporalSpec:
        """The half-open window ``[start, end)`` of ISO dates."""
        return cls("range", start=start, end=end)

    @property
    def window(self) -> tuple[dt.date, dt.date]:
        """First day, and first day after it."""
        year = self.__dict__["year"]
        if year is not None:
            return dt.date(year, 1, 1), dt.date(year + 1, 1, 1)
        return _date("start", self.start), _date("end", self.end)

    def validate(self) -> None:
        """Do nothing: a spec is checked when it is built (kept for callers of rs-embed)."""

    def to_dict(self) -> dict[str, JSONValue]:
        """``{"year": ...}`` or ``{"start": ..., "end": ...}``; ``temporal_from_dict`` reads it back."""
        if self.mode == "year":
            return {"year": self.__dict__["year"]}
        return {"start": self.start, "end": self.end}


def _date(name: str, value: object) -> dt.date:
    hint = f'{name} is an ISO date such as "2022-06-01".'
    if not isinstance(value, str):
        msg = f"{name} is {value!r}."
        raise InvalidRequest(msg, hint=hint)
    try:
        return dt.date.fromisoformat(value)
    except ValueError as error:
        msg = f"{name} is {value!r}: {error}."
        raise InvalidRequest(msg, hint=hint) from error


def temporal_from_dict(value: object) -> TemporalSpec:
    """The spec that a JSON object describes.

    Raises:
        InvalidRequest: not an object, or neither ``{"year"}`` nor ``{"start", "end"}``.
    """
    if isinstance(value, TemporalSpec):
        return value
    hint = 'temporal is {"year": 2022} or {"start": "2022-06-01", "end": "2022-09-01"}.'
    if not isinstance(value, Mapping):
        msg = f"temporal is {value!r}."
        raise InvalidRequest(msg, hint=hint)
    fields = {key: item for key, item in value.items() if key != "mode" and item is not None}
    if set(fields) == {"year"}:
        return TemporalSpec("year", year=fields["year"])
    if set(fields) == {"start", "end"}:
        return TemporalSpec("range", start=fields["start"], end=fields["end"])
    msg = f"temporal has the keys {sorted(map(str, value))}."
    raise InvalidRequest(msg, hint=hint)
