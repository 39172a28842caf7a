"""Gives each request an id, logs and counts it, and answers what went wrong in one form."""

import logging
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serving.metrics import Metrics
from pipeline.serving.refusals import RETRY_AFTER_SECONDS

_logger = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
REQUEST_ID, MODEL_VERSION = "X-Request-Id", "X-Model-Version"


class RequestLog:
    """Stands before the application.

    A request's line has its id, method, route, status, milliseconds, images and version: neither a picture nor a path
    that a client made up.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, route_of: Callable[[str], str]) -> None:
        """Wraps the application; `route_of` maps a path to one of few names."""
        self._app, self._metrics, self._route_of = app, metrics, route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, begun = time.perf_counter(), 0, False
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex[:16]
        facts = scope.setdefault("state", {})
        facts["request_id"] = request_id

        async def send_on(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                headers = MutableHeaders(raw=message["headers"])
                headers[REQUEST_ID] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                if status == 503:
                    headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception:
            _logger.exception("id=%s failed", request_id)
            if not begun:
                fault = JSONResponse({"error": f"a fault of the server; its log tells of request {request_id}"}, 500)
                await fault(scope, receive, send_on)
        finally:
            seconds = time.perf_counter() - start
            route = self._route_of(scope["path"])
            # 0: the client went away, or the server stopped, before there was an answer.
            self._metrics.count_request(route, status, seconds)
            _logger.info(
                "id=%s %s %s status=%d ms=%.1f images=%s version=%s%s",
                request_id,
                scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE") else "OTHER",
                route,
                status,
                seconds * 1000,
                facts.get("images", 0),
                facts.get("version", "-"),
                f" refused={facts['refused']!r}" if "refused" in facts else "",
            )
