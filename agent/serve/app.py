"""The app: the guard, the errors' shape, and all doors that are there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from agent.serve import questions, routes
from agent.serve.errors import kind_of
from agent.serve.guard import LEFT, Doorkeeper, Guard
from agent.serve.mcp import mount as mount_mcp
from agent.serve.openai.routes import router as openai_router
from agent.serve.service import Service
from agent.serve.settings import ServerSettings
from agent.serve.wire import ErrorBody, ErrorInfo
from redraft.errors import BackendError, RedraftError

PAGE = Path(__file__).parent / "page"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 429: "too_many", 503: "timeout"}


def create_app(settings: ServerSettings, service: Service | None = None) -> FastAPI:
    """The app; its lifespan opens the service, unless the caller passes one that is open already."""
    door = Doorkeeper(settings)
    opened = service or Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _doors_open(app):
            if service is not None:
                yield
                return
            async with opened:
                yield

    app = FastAPI(title="redraft", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json", lifespan=lifespan)
    app.state.service = opened
    app.state.lifespans = []
    app.state.parsing = asyncio.Lock()
    _errors(app)
    app.include_router(routes.router(opened, door))
    _health(app, opened)
    app.include_router(openai_router(opened))
    app.include_router(questions.router(opened))
    _docs(app)
    mount_mcp(app, opened)
    _page(app)
    app.add_middleware(Guard, door=door, bounds=settings.bounds, metrics=opened.metrics)
    return app


@asynccontextmanager
async def _doors_open(app: FastAPI) -> AsyncIterator[None]:
    """Runs what doors have put into `app.state.lifespans`: functions of no argument that give context managers."""
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:
        for lifespan in app.state.lifespans:
            await stack.enter_async_context(lifespan())
        yield


def _docs(app: FastAPI) -> None:
    """/openapi.json, and /docs: a page without scripts that lists the routes."""

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        rows = "".join(
            f"<tr><td><code>{escape(method.upper())} {escape(path)}</code></td>"
            f"<td>{escape(str(about.get('description') or about.get('summary') or ''))}</td></tr>"
            for path, methods in app.openapi()["paths"].items()
            for method, about in methods.items()
        )
        return HTMLResponse(
            "<!doctype html><html lang=en><meta charset=utf-8><title>redraft: routes</title><h1>Routes</h1>"
            f'<p>The whole contract is <a href="/openapi.json">/openapi.json</a>.</p><table>{rows}</table></html>',
            headers={"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"},
        )


def _health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> PlainTextResponse:
        if service.draining:
            return PlainTextResponse("draining\n", 503)
        if not service.ready:
            return PlainTextResponse("models are loading\n", 503)
        try:
            await service.database.ping()
        except BackendError:
            return PlainTextResponse("no database\n", 503)
        return PlainTextResponse("ready\n")

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _page(app: FastAPI) -> None:
    if not (PAGE / "index.html").is_file():
        return
    policy = {"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-cache"}

    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(PAGE / "index.html", media_type="text/html", headers=policy)

    app.mount("/page", _Files(directory=PAGE), name="page")


class _Files(StaticFiles):
    """The page's files, which browsers ask for again after a change."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _errors(app: FastAPI) -> None:
    @app.exception_handler(RedraftError)
    async def ours(request: Request, error: RedraftError) -> JSONResponse:
        status, code, kind = kind_of(error)
        return error_response(status, str(error), code, kind)

    @app.exception_handler(RequestValidationError)
    async def body(request: Request, error: RequestValidationError) -> JSONResponse:
        message, param = first_of(error.errors())
        return error_response(422, message, "bad_body", param=param)

    @app.exception_handler(ClientDisconnect)
    async def left(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=LEFT)  # for the log: nobody reads it

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        kind = "invalid_request_error" if error.status_code < 500 else "server_error"
        return error_response(error.status_code, str(error.detail), _CODES.get(error.status_code, "bad_request"), kind)


def first_of(mistakes: Sequence[Any]) -> tuple[str, str | None]:
    """What is wrong first with a body, and with which field. What the client sent is not quoted."""
    first = mistakes[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    param = ".".join(place) or None
    return f"{param or 'the body'}: {first['msg'].removeprefix('Value error, ')}", param


def error_response(
    status: int, message: str, code: str, kind: str = "invalid_request_error", param: str | None = None
) -> JSONResponse:
    """An error in the shape that all doors share."""
    body = ErrorBody(error=ErrorInfo(message=message, type=kind, param=param, code=code))
    headers = {"Retry-After": "2"} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body.model_dump(), status, headers=headers)
