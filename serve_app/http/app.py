"""The HTTP application: ``build_http(service, limits)``, every route on one screen."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from rs_embed_core.errors import JSONValue, RSEmbedError
from rs_embed_core.release import package_version
from serve_app.http import openapi, pages
from serve_app.http.embeddings import embed
from serve_app.http.middleware import RequestEdge, request_id_of
from serve_app.http.problems import plain_problem, problem_response
from serve_app.wire.catalogue import find_model
from serve_app.wire.problems import problem_pages
from serve_app.wire.rows import Service
from serve_app.wire.schemas import Limits


def build_http(service: Service, limits: Limits, *, echo_request_id: bool = True) -> FastAPI:
    """The application around a service.

    Args:
        service: the router, or a stand-in.
        limits: of one request.
        echo_request_id: send X-Request-ID back; False under Ray Serve, which does it by itself.
    """
    app = FastAPIOffline(
        title="rs-embed-serve", version=package_version(), description=openapi.DESCRIPTION, redoc_url=None
    )
    app.add_middleware(RequestEdge, echo=echo_request_id)
    app.add_exception_handler(RSEmbedError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    _add_embeddings(app, service, limits)
    _add_models(app, service)
    _add_health(app, service)
    _add_pages(app)
    return app


def _add_embeddings(app: FastAPI, service: Service, limits: Limits) -> None:
    @app.post(
        "/v1/embeddings",
        summary="Embed one or many ROIs",
        response_class=Response,
        openapi_extra={"requestBody": openapi.request_body(limits)},
        responses=openapi.EMBEDDINGS_RESPONSES,
    )
    async def embeddings(request: Request) -> Response:
        """One model, one ROI (`spatial`) or many (`spatials`).

        The Accept header chooses the encoding: an Arrow IPC stream (what the Python client reads), JSON, or
        one JSON object per line. Rows come as they complete, each with its `index`; a failed ROI is a problem
        at its index and the others go on. The reply ends with a summary: without it, it was cut off.
        """
        return await embed(request, service, limits)


def _add_models(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", summary="All models", responses=openapi.PROBLEM_RESPONSES)
    async def models() -> JSONResponse:
        """What every model accepts and returns, and which of its variants are up."""
        return JSONResponse({"models": await service.catalogue()})

    @app.get("/v1/models/{model}", summary="One model", responses=openapi.PROBLEM_RESPONSES)
    async def model(model: str) -> JSONResponse:
        """One model by id or alias, with the schema of its `model_config`."""
        return JSONResponse(find_model(await service.catalogue(), model))


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/livez", summary="Alive")
    async def livez() -> JSONResponse:
        """200 as long as this process answers."""
        return _fresh({"live": True})

    @app.get(
        "/readyz",
        summary="Ready",
        responses={503: {"description": "A model is not up; the body says which."}},
    )
    async def readyz() -> JSONResponse:
        """200 if every model that should be up is; the body has the state of each."""
        state = await service.ready()
        return _fresh(state, 200 if state.get("ready") is True else 503)

    # The names that KServe's v2 protocol gives the same two questions.
    app.get("/v2/health/live", include_in_schema=False)(livez)
    app.get("/v2/health/ready", include_in_schema=False)(readyz)


def _fresh(content: dict[str, JSONValue], status: int = 200) -> JSONResponse:
    return JSONResponse(content, status, {"Cache-Control": "no-store"})


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def landing(request: Request) -> HTMLResponse:
        return pages.response(pages.landing(str(request.base_url).rstrip("/")))

    @app.get("/problems", include_in_schema=False)
    async def problems() -> HTMLResponse:
        return pages.response(pages.problem_index(problem_pages()))

    @app.get("/problems/{code}", include_in_schema=False)
    async def problem(code: str) -> HTMLResponse:
        page = problem_pages().get(code)
        if page is None:
            raise HTTPException(404, f"There is no problem {code!r}; /problems lists them.")
        return pages.response(pages.problem(page))


async def _on_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RSEmbedError):  # Starlette types every handler for any exception
        raise error
    return problem_response(error, instance=request_id_of(request))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    detail = error.detail if request.url.path.startswith("/problems/") else _where(request, error)
    return plain_problem(error.status_code, detail, instance=request_id_of(request), headers=headers)


def _where(request: Request, error: HTTPException) -> str:
    return f"{request.method} {request.url.path}: {error.detail}. /docs lists the routes."
