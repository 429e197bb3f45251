"""Errors as RFC 9457 problems, and back."""

from __future__ import annotations

import json

import pytest

from rs_embed_core.errors import (
    BatchTooLong,
    DeadlineExceeded,
    ForwardError,
    InvalidRequest,
    OutOfMemory,
    Overloaded,
    ProviderQuota,
    RSEmbedError,
    Unavailable,
    UnknownModel,
    UnsupportedMedia,
)
from serve_app.wire.problems import (
    entry_of,
    from_problem,
    problem_json,
    problem_pages,
    status_of,
    to_problem,
    unexpected,
)


class _Melted(OutOfMemory):
    """The device is gone."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownModel("x"), 404),
        (BatchTooLong("x"), 413),
        (InvalidRequest("x"), 422),
        (Overloaded("x"), 429),
        (ProviderQuota("x"), 503),
        (DeadlineExceeded("x"), 504),
        (RSEmbedError("x"), 500),
        (_Melted("x"), 500),
    ],
)
def test_status(error, status):
    assert status_of(error) == status
    assert to_problem(error)["status"] == status


def test_a_subclass_has_its_parents_row():
    assert entry_of(_Melted) == entry_of(OutOfMemory)


def test_members_of_a_problem():
    error = UnknownModel("no model 'dofaa'.", hint="Did you mean dofa?", context={"model": "dofaa"})
    assert to_problem(error, instance="id-1", pointer="/model") == {
        "type": "/problems/unknown_model",
        "title": "Unknown model",
        "status": 404,
        "detail": "no model 'dofaa'.",
        "instance": "id-1",
        "code": "unknown_model",
        "error": "UnknownModel",
        "hint": "Did you mean dofa?",
        "retryable": False,
        "context": {"model": "dofaa"},
        "errors": [{"pointer": "/model", "detail": "no model 'dofaa'."}],
    }


def test_a_finer_code_keeps_the_page_of_its_class():
    problem = to_problem(UnknownModel("not here.", code="model_not_served"))
    assert problem["code"] == "model_not_served"
    assert problem["type"] == "/problems/unknown_model"
    assert isinstance(from_problem(problem), UnknownModel)


def test_pointers_in_the_context_win_and_come_back():
    errors = [
        {"pointer": "/output", "detail": "output is 3."},
        {"pointer": "/dtype", "detail": "dtype is 4."},
    ]
    error = InvalidRequest("two fields.", context={"errors": errors, "n": 2})
    problem = to_problem(error, pointer="/elsewhere")
    assert problem["errors"] == errors
    assert problem["context"] == {"n": 2}
    assert from_problem(problem) == error
    assert error.context["errors"] == errors


def test_one_class_may_answer_with_two_statuses():
    assert to_problem(UnsupportedMedia("x"), status=406)["status"] == 406


@pytest.mark.parametrize(
    ("problem", "cls"),
    [
        ({"error": "OutOfMemory", "code": "new"}, OutOfMemory),
        ({"error": "FromALaterVersion", "code": "forward_error"}, ForwardError),
        ({"error": "FromALaterVersion", "code": "new", "status": 503}, RSEmbedError),
        ({"status": 503, "detail": "no backend"}, Unavailable),
        ({"status": 504}, DeadlineExceeded),
        ({"status": 418}, RSEmbedError),
        ({"status": "503", "detail": 7, "context": [], "errors": {}, "retryable": "no"}, RSEmbedError),
        ({}, RSEmbedError),
    ],
)
def test_the_class_of_a_problem(problem, cls):
    error = from_problem(problem)
    assert type(error) is cls
    assert error.message


def test_unexpected_tells_nothing_of_the_inside():
    problem = problem_json(to_problem(unexpected(KeyError("secret_path"))))
    assert b"secret" not in problem
    assert b"KeyError" not in problem
    assert unexpected(TimeoutError()).retryable


def test_any_context_can_be_written():
    error = RSEmbedError("x", context={"nan": float("nan"), "object": object()})
    assert json.loads(problem_json(to_problem(error)))["context"]["nan"] is None


def test_pages_link_to_their_parents():
    pages = problem_pages()
    assert pages["out_of_memory"].parent == "forward_error"
    assert pages["internal_error"].parent is None
    assert all(page.parent is None or page.parent in pages for page in pages.values())
