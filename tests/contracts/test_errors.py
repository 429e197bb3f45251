"""True of every error class."""

from __future__ import annotations

import json
import pickle

import pytest

from rs_embed_core.errors import RSEmbedError, error_classes
from serve_app.wire.problems import entry_of, from_problem, problem_json, problem_pages, to_problem

CLASSES = [cls for cls in error_classes() if cls.__module__.startswith("rs_embed_core")]
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def _full(cls: type[RSEmbedError]) -> RSEmbedError:
    return cls(
        "it was 3.",
        code="finer",
        hint="Say 4.",
        retryable=not cls.default_retryable,
        context={"value": 3, "known": ["a", None, 1.5, True], "nested": {"x": [1]}},
    )


@every_class
def test_pickles(cls):
    for error in (_full(cls), cls("plain")):
        back = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
        assert back == error
        assert type(back) is cls


@every_class
def test_is_raised_again_as_an_equal_one(cls):
    error = _full(cls)
    with pytest.raises(cls) as caught:
        raise error
    twin = caught.value.again()
    assert twin == error
    assert hash(twin) == hash(error)
    assert (twin.__traceback__, twin.__context__, twin.__cause__) == (None, None, None)
    further = error.again(hint="Say 5.", index=2, value=4)
    assert (type(further), further.hint) == (cls, "Say 5.")
    assert further.context == {**error.context, "index": 2, "value": 4}
    assert error == _full(cls)


@every_class
def test_comes_back_from_its_problem(cls):
    for error in (_full(cls), cls("plain")):
        back = from_problem(json.loads(problem_json(to_problem(error, instance="id"))))
        assert back == error
        assert type(back) is cls


@every_class
def test_has_a_status_and_a_page(cls):
    entry = entry_of(cls)
    assert 400 <= entry.status < 600
    assert entry.title
    assert entry.advice
    page = problem_pages()[cls.default_code]
    assert page.name == cls.__name__
    assert page.meaning.endswith(".")
    assert to_problem(cls("x"))["type"] == f"/problems/{page.code}"


@every_class
def test_is_one_of_the_three_that_callers_catch(cls):
    if cls is not RSEmbedError:
        assert {parent.__name__ for parent in cls.__mro__} & {"SpecError", "ModelError", "ProviderError"}
    assert cls.__doc__


def test_codes_are_unique():
    codes = [cls.default_code for cls in CLASSES]
    assert sorted(set(codes)) == sorted(codes)
