"""The application: which address takes what, and answers how."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from pipeline.serving import own_form, tensorflow_serving
from pipeline.serving.answering import Answering, Picture, Said, Unusable
from pipeline.serving.bodies import Bodies, discard, read_files
from pipeline.serving.limits import Limits
from pipeline.serving.metrics import CONTENT_TYPE, Metrics
from pipeline.serving.openapi import make_openapi
from pipeline.serving.pages import PAGE_HEADERS, render_docs, render_page
from pipeline.serving.refusals import Refusal
from pipeline.serving.request_log import MODEL_VERSION, RequestLog
from pipeline.serving.versions import Version, Versions


@dataclass(frozen=True)
class Routes:
    """Addresses that a platform may choose.

    Attributes:
        health: where it asks whether the server can answer, beside `/ping`.
        predict: where it sends TensorFlow Serving's JSON, beside that one's own address.
    """

    health: str | None = None
    predict: str | None = None


@dataclass
class Server:
    """Answers requests.

    Attributes:
        versions: of the model.
        answering: decodes and answers.
        limits: of a request.
        routes: of the platform.
        is_stopping: whether it only answers what it has taken.
    """

    versions: Versions
    answering: Answering
    limits: Limits
    routes: Routes = Routes()
    is_stopping: bool = False
    _bodies: Bodies = field(init=False)

    def __post_init__(self) -> None:
        """Makes what counts."""
        self._bodies = Bodies(self.limits)
        self.metrics = Metrics(
            lambda: self.answering.images, lambda: self._bodies.held, lambda: self.versions.current.number
        )
        self.answering.metrics = self.metrics

    def make_app(self) -> Starlette:
        """Returns the ASGI application."""
        name = self.versions.source.name
        self._model_path = re.compile(
            rf"/v1/models/{re.escape(name)}(?:/versions/(?P<version>\d{{1,18}}))?(?P<act>:predict|/metadata)?"
        )
        openapi = make_openapi(name, self.limits, self.routes.health, self.routes.predict)
        docs = render_docs(openapi)

        async def get_openapi(request: Request) -> Response:
            return JSONResponse(openapi)

        async def get_docs(request: Request) -> Response:
            return HTMLResponse(docs, headers=PAGE_HEADERS)

        healths, predicts = ["/ping", self.routes.health], ["/predict", "/invocations"]
        routes = [
            Route("/", self._page),
            Route("/docs", get_docs),
            Route("/openapi.json", get_openapi),
            Route("/metrics", self._metrics),
            *(Route(path, self._health) for path in dict.fromkeys(filter(None, healths))),
            *(Route(path, self._answering(self._predict), methods=["POST"]) for path in predicts),
            Route("/v1/models/{rest:path}", self._model, methods=["GET"]),
            Route("/v1/models/{rest:path}", self._answering(self._model_predict), methods=["POST"]),
        ]
        if self.routes.predict and self.routes.predict not in predicts:
            routes.append(Route(self.routes.predict, self._answering(self._vertex_predict), methods=["POST"]))
        known = {route.path for route in routes}

        def route_of(path: str) -> str:
            if path in known:
                return path
            if match := self._model_path.fullmatch(path):
                return f"/v1/models{match['act'] or ''}"
            return "other"

        return Starlette(
            routes=routes,
            middleware=[Middleware(RequestLog, metrics=self.metrics, route_of=route_of)],
            exception_handlers={HTTPException: _tell_http},
        )

    def _answering(self, answer: Callable[[Request, Version], Awaitable[Response]]) -> Any:
        """Makes an endpoint of what answers a request by one version: with its limits, its version and its refusals."""

        async def endpoint(request: Request) -> Response:
            with self.versions.in_use() as version:
                request.state.version = version.number
                try:
                    response = await asyncio.wait_for(answer(request, version), self.limits.timeout_seconds)
                except Refusal as refusal:
                    response = await _refuse(request, refusal)
                except asyncio.TimeoutError:
                    response = await _refuse(request, self._explain_timeout(request))
                except ClientDisconnect:
                    return Response(status_code=400)  # Nobody reads it.
                response.headers[MODEL_VERSION] = str(version.number)
                return response

        return endpoint

    def _explain_timeout(self, request: Request) -> Refusal:
        seconds = f"within {self.limits.timeout_seconds:g} s"
        if not getattr(request.state, "is_read", False):
            return Refusal(400, f"the body did not come {seconds}")
        return Refusal(503, f"there was no answer {seconds}")

    async def _predict(self, request: Request, version: Version) -> Response:
        """Answers an image, a form of images, or TensorFlow Serving's JSON, by its Content-Type."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return await self._answer_json(request, version)
        if kind == "multipart/form-data":
            async with self._bodies.read(request) as body:
                files = await read_files(request.headers, body, self.limits)
                said = await self._answer(request, version, [content for _, content in files])
            return JSONResponse(own_form.render_several([name for name, _ in files], said, version.number))
        if kind and not kind.startswith("image/") and kind not in ("application/octet-stream", "application/x-image"):
            raise Refusal(
                400,
                f"Content-Type {kind[:100]}: send image/*, application/octet-stream, multipart/form-data"
                " or application/json",
            )
        async with self._bodies.read(request) as body:
            if not body:
                raise Refusal(400, "the body is empty; send an image")
            (one,) = await self._answer(request, version, [body])
            assert not isinstance(one, Unusable)  # Alone, it was refused.
            evidence = None
            if request.query_params.get("explain") == "true":
                evidence = await self.answering.explain(version, body)
        return JSONResponse(own_form.render_one(one, version.number, evidence))

    async def _model_predict(self, request: Request, version: Version) -> Response:
        match = self._find_model(request, version)
        if match["act"] != ":predict":
            raise Refusal(404, "POST goes to :predict; classify and regress are for tf.Examples of TensorFlow Serving")
        return await self._answer_json(request, version)

    async def _vertex_predict(self, request: Request, version: Version) -> Response:
        """Answers Vertex AI's predict, and its rawPredict of an image."""
        kind = request.headers.get("content-type", "")
        raw = kind.startswith(("image/", "multipart/", "application/octet-stream"))
        return await (self._predict if raw else self._answer_json)(request, version)

    async def _answer_json(self, request: Request, version: Version) -> Response:
        async with self._bodies.read(request) as body:
            prediction = await self.answering.in_thread(tensorflow_serving.parse_prediction, body, version.model)
            del body
            said = await self._answer(request, version, prediction.pictures)
        return JSONResponse(tensorflow_serving.render_prediction(said, prediction.in_columns))

    async def _answer(self, request: Request, version: Version, pictures: list[Picture]) -> list[Said]:
        request.state.images = len(pictures)
        said = await self.answering.answer(version, pictures)
        reasons = [one.reason for one in said if isinstance(one, Unusable)]
        if len(reasons) == len(said):
            more = f" (and {len(reasons) - 1} more images that cannot be used)" if reasons[1:] else ""
            raise Refusal(400, reasons[0] + more)
        return said

    async def _model(self, request: Request) -> Response:
        version = self.versions.current
        try:
            match = self._find_model(request, version)
        except Refusal as refusal:
            return await _refuse(request, refusal)
        name = self.versions.source.name
        if match["act"] == "/metadata":
            return JSONResponse(tensorflow_serving.render_metadata(name, version.number, version.model))
        if match["act"]:
            return JSONResponse({"error": "POST goes to :predict"}, 405, {"Allow": "POST"})
        states = [(version.number, "AVAILABLE")]
        if self.versions.loading is not None and match["version"] is None:
            states.append((self.versions.loading, "LOADING"))
        return JSONResponse(tensorflow_serving.render_status(states))

    def _find_model(self, request: Request, version: Version) -> re.Match[str]:
        match = self._model_path.fullmatch(request.scope["path"])
        if not match:
            raise Refusal(404, f"there is no such model; this server answers /v1/models/{self.versions.source.name}")
        if match["version"] and int(match["version"]) != version.number:
            raise Refusal(404, f"version {match['version']} is not served; version {version.number} is")
        return match

    async def _health(self, request: Request) -> Response:
        if self.is_stopping:
            return JSONResponse({"error": "the server is stopping"}, 503)
        number = self.versions.current.number
        return JSONResponse({"model_version": number}, headers={MODEL_VERSION: str(number)})

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.render(), media_type=CONTENT_TYPE)

    async def _page(self, request: Request) -> Response:
        version = self.versions.current
        return HTMLResponse(render_page(self.versions.source.name, version, self.limits), headers=PAGE_HEADERS)


async def _refuse(request: Request, refusal: Refusal) -> Response:
    request.state.refused = refusal.reason
    await discard(request)
    return JSONResponse({"error": refusal.reason}, refusal.status)


async def _tell_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    await discard(request)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
