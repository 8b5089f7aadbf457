"""The application that answers requests: the page, ``POST /tag``, ``/health`` and ``/openapi.json``."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from secrets import token_urlsafe

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from xner.errors import quoted
from xner.serve.marking import MARK_STYLE, html_line, hue_of
from xner.serve.openapi import Limits, describe_api
from xner.serve.tag_queue import Tag, TaggingError, TagQueue
from xner.tagger import Tagged

_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; style-src-attr 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy of the page; the style attributes are the colours of marked entities."""

_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}

_RETRY = {"Retry-After": "5"}


def make_application(
    tag: Tag, types: Sequence[str], *, hosts: Sequence[str], limits: Limits | None = None
) -> Starlette:
    """Make an application.

    Args:
        tag: Tags texts, such as a ``Tagger``.
        types: Entity types of the model.
        hosts: Names of the server in the header ``Host``, without port. Others are refused, so that the page of
            another site cannot reach the server under a name of its own (DNS rebinding).
        limits: Limits of requests.

    Returns:
        The application, under ASGI.
    """
    service = _Service(tag, types, limits or Limits())
    return Starlette(
        routes=[
            Route("/", service.page),
            Route("/tag", service.tag, methods=["POST"]),
            Route("/health", service.health),
            Route("/openapi.json", service.openapi),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[*hosts], www_redirect=False)],
        exception_handlers={HTTPException: _refuse, ClientDisconnect: _leave},
        lifespan=service.lifespan,
    )


class _Service:
    """The endpoints, with their queue, limits and template."""

    def __init__(self, tag: Tag, types: Sequence[str], limits: Limits) -> None:
        self._queue = TagQueue(tag)
        self._types = [*types]
        self._limits = limits
        self._requests = 0
        environment = Environment(loader=PackageLoader("xner.serve", "."), autoescape=True, undefined=StrictUndefined)
        self._template = environment.get_template("try_model.html.j2")

    @asynccontextmanager
    async def lifespan(self, application: Starlette) -> AsyncIterator[None]:
        """Tag texts while the application runs."""
        work = asyncio.create_task(self._queue.work())
        yield
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    async def page(self, request: Request) -> Response:
        """Answer with the page."""
        nonce = token_urlsafe()
        types = [(kind, hue_of(kind)) for kind in self._types]
        content = self._template.render(nonce=nonce, types=types, limits=self._limits, mark_style=MARK_STYLE)
        return HTMLResponse(content, headers={**_HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce)})

    async def health(self, request: Request) -> Response:
        """Answer that the application is ready."""
        return JSONResponse({"status": "ok", "types": self._types}, headers=_HEADERS)

    async def openapi(self, request: Request) -> Response:
        """Answer with the description of the endpoints."""
        return JSONResponse(describe_api(self._types, self._limits), headers=_HEADERS)

    async def tag(self, request: Request) -> Response:
        """Answer with the entities of texts, within the limits."""
        if self._requests >= self._limits.requests:
            raise HTTPException(503, f"{self._requests} requests are in progress; try again later", _RETRY)
        self._requests += 1
        try:
            async with asyncio.timeout(self._limits.seconds):
                body = await self._body(request)
                tagged = await self._queue.tag(parse_texts(body, self._limits))
        except TimeoutError as error:
            reason = f"the request was not complete within {self._limits.seconds:g} seconds; try again with less text"
            raise HTTPException(503, reason, _RETRY) from error
        except TaggingError as error:
            raise HTTPException(500, "the texts could not be tagged; the log of the server has the reason") from error
        finally:
            self._requests -= 1
        headers = {**_HEADERS, "Vary": "Accept"}
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse("".join(map(html_line, tagged)), headers=headers)
        return JSONResponse({"results": [_result(each) for each in tagged]}, headers=headers)

    async def _body(self, request: Request) -> bytes:
        """Read a body, or discard one that is too large: a client that still writes may not read the answer."""
        body, size = bytearray(), 0
        async for part in request.stream():
            size += len(part)
            if size <= self._limits.bytes:
                body += part
        if size > self._limits.bytes:
            raise HTTPException(413, f"the body has {size:,} bytes; use at most {self._limits.bytes:,} per request")
        # A page of another site cannot send this type without asking first, which is not answered.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "the content type is not application/json; send JSON under that type")
        return bytes(body)


def parse_texts(body: bytes, limits: Limits) -> list[str]:
    """Read the texts of the body of a request.

    Args:
        body: JSON, ``{"texts": [...]}`` or ``{"text": ...}``.
        limits: Limits of the number of texts, and of each.

    Raises:
        HTTPException: If it is something else; with the reason.
    """
    try:
        content = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON in UTF-8: {error}") from error
    if not isinstance(content, dict):
        raise HTTPException(400, f"the body is {_kind(content)}; use an object with the field texts or text")
    if unknown := [name for name in content if name not in ("texts", "text")]:
        raise HTTPException(400, f"{quoted(unknown[0])} is not a field; use texts or text")
    if len(content) != 1:
        raise HTTPException(400, "the body needs one of the fields texts and text, not none or both")
    texts = content["texts"] if "texts" in content else [content["text"]]
    if not isinstance(texts, list):
        raise HTTPException(400, f"texts is {_kind(texts)}; use an array of strings")
    for number, text in enumerate(texts):
        place = f"texts[{number}]" if "texts" in content else "text"
        if not isinstance(text, str):
            raise HTTPException(400, f"{place} is {_kind(text)}; use a string")
        if len(text) > limits.characters:
            raise HTTPException(
                413, f"{place} has {len(text):,} characters; use at most {limits.characters:,} per text"
            )
    if len(texts) > limits.texts:
        raise HTTPException(413, f"texts has {len(texts):,} items; use at most {limits.texts:,} per request")
    return texts


def _kind(value: object) -> str:
    """Name the type of a value of JSON."""
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")


def _result(tagged: Tagged) -> dict[str, object]:
    return {"text": tagged.text, "entities": [entity.as_json() for entity in tagged.entities]}


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer a request that is refused with the reason."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, {**_HEADERS, **(error.headers or {})})


async def _leave(request: Request, error: Exception) -> Response:
    """End a request whose client has gone; nobody reads the answer."""
    return Response(status_code=400)
