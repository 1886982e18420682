"""The application: the routes of the service."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Form, Header, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser

from ..anonymizer import Anonymizer
from ..errors import AnonError, BundleError
from ..folder.review import Review
from ..guard.options import Mode
from ..settings import Settings
from ..types import Description
from .admission import Admission
from .answers import EVENTS, JSON, encoded, end_event, negotiate, record, step_event
from .forms import MEDIA_TYPES, PhotoForm, PortraitForm, ReadingForm
from .metrics import Counting, Metrics
from .options import ServiceOptions
from .orders import Order, Result, Step
from .problems import problem, problem_of, problem_of_status
from .protection import PAGE_PATHS
from .reviewing import make_router
from .studio import Studio

PAGE = Path(__file__).with_name("page")
Accepted = Annotated[
    str, Header(description="image/png, image/jpeg, image/webp, application/json or text/event-stream.")
]
Named = Annotated[str | None, Header(pattern=r"^[\w-]{1,64}$", description="A name to cancel it by.")]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "content": {"application/problem+json": {}}}
    for status, words in {
        400: "A value is not valid, or values do not fit together.",
        404: "There is no such thing.",
        406: "No format that the service has is accepted.",
        408: "The body took too long.",
        409: "The request was cancelled, its name is in use, or a folder or a portrait is not what it was.",
        413: "The body is too large.",
        422: "The photo cannot be used, no portrait passed the guard, or a field is not valid.",
        503: "There are too many requests.",
        504: "The deadline has passed.",
    }.items()
}
IMAGES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture, a record with the picture in it, or events.",
        "content": {media: {} for media in (*MEDIA_TYPES.values(), JSON, EVENTS)},
    }
}


class Service:
    """The state of a service.

    Args:
        anonymizer: the engines with the service's own settings.
        options: the limits.
    """

    def __init__(self, anonymizer: Anonymizer, options: ServiceOptions) -> None:
        self.anonymizer, self.options = anonymizer, options
        self.studio = Studio(options)
        self.metrics = Metrics(lambda: self.studio.active)
        self.ready = False
        self.running: dict[str, asyncio.Future[Result]] = {}
        self.guard: Mode = "off" if anonymizer.inspector is None else anonymizer.inspector.options.mode
        self._using = lru_cache(64)(anonymizer.using)

    def using(self, settings: Settings) -> Anonymizer:
        """Return an anonymizer with a request's settings; the same one for the same settings."""
        common = self._using(replace(settings, attributes=None))  # settings with attributes cannot be looked up
        return common if settings.attributes is None else common.using(settings)

    def load(self) -> None:
        """Load all engines."""
        manifest = self.anonymizer.engines.bundle.manifest
        for role in manifest.engines:
            _ = self.anonymizer.engines[role]
        self.anonymizer.engines.verify()
        self.ready = True

    async def work(self, order: Order, name: str | None, listen: Callable[[Step], object]) -> Result:
        """Work on an order until it is done, is cancelled, or takes too long.

        Raises:
            AnonError: see `Studio.submit`.
            HTTPException: it was cancelled or took too long, or its name is in use.
        """
        name = name or secrets.token_hex(16)
        if name in self.running:
            raise HTTPException(409, "a request of this name is being worked on; choose another name")
        future = asyncio.wrap_future(self.studio.submit(order, listen))
        self.running[name] = future
        try:
            async with asyncio.timeout(self.options.deadline):
                result = await future
        except TimeoutError:
            raise HTTPException(504, f"it took more than {self.options.deadline:g} s") from None
        except asyncio.CancelledError:
            if future.cancelled() and (task := asyncio.current_task()) is not None and not task.cancelling():
                raise HTTPException(409, "it was cancelled") from None
            raise
        finally:
            future.cancel()
            del self.running[name]
        self.metrics.made(result)
        return result


def create_application(anonymizer: Anonymizer, options: ServiceOptions, review: Review | None = None) -> FastAPI:
    """Return the application.

    Args:
        anonymizer: the engines with the service's own settings. Requests choose others, except for a weaker guard.
        options: the limits.
        review: the review of a folder; None for no review.
    """
    service = Service(anonymizer, options)
    # Larger parts of a form would be written to disk.
    MultiPartParser.spool_max_size = max(MultiPartParser.spool_max_size, options.max_bytes + 1)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(asyncio.to_thread(service.load))
        yield
        await loading
        await asyncio.to_thread(service.studio.close)

    app = FastAPI(
        title="anon-engines",
        version=version("anon-engines"),
        description="Portraits of people who do not exist, from photos of people, and photos with such faces.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from other sites
        redoc_url=None,
    )
    app.state.service = service
    _add_errors(app)
    _add_work(app, service)

    app.add_middleware(Admission, studio=service.studio, most=options.queue)
    app.add_middleware(Counting, metrics=service.metrics)  # outside, so that it counts those that are sent away

    @app.get("/healthz", summary="Whether the process runs", response_class=Response)
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz", summary="Whether the engines are loaded", response_class=Response)
    async def readyz() -> Response:
        return Response(
            "ready\n" if service.ready else "loading\n", 200 if service.ready else 503, media_type="text/plain"
        )

    @app.get("/metrics", summary="Figures for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=service.metrics.media_type)

    @app.get("/v1/info", summary="The bundle, its engines, versions and limits")
    async def info() -> dict[str, Any]:
        return _info(service) | {"review": review is not None}

    if review is not None:
        app.include_router(make_router(review, PROBLEMS))
    for path in PAGE_PATHS:
        app.add_api_route(path, _send(PAGE / (path[1:] or "index.html")), include_in_schema=False)
    return app


def _add_work(app: FastAPI, service: Service) -> None:
    """Add the routes that read photos and paint pictures."""

    @app.post("/v1/descriptions", summary="What is read from a photo; nothing is painted", responses=PROBLEMS)
    async def describe(
        request: Request, form: Annotated[ReadingForm, Form(media_type="multipart/form-data")]
    ) -> dict[str, Any]:
        settings = form.settings("off")
        order = Order(service.using(settings), await _read(form.photo), seed=form.seed, describe_only=True)
        result = await _unless_gone(request, service.work(order, None, lambda step: None))
        if not isinstance(result.product, Description):
            raise RuntimeError("a description was asked for")
        description = asdict(result.product)
        del description["embedding"], description["landmarks"]
        return {"seed": result.seed} | description

    @app.post("/v1/portraits", summary="A new portrait", response_class=Response, responses=IMAGES | PROBLEMS)
    async def paint(
        request: Request,
        form: Annotated[PortraitForm, Form(media_type="multipart/form-data")],
        accept: Accepted = "*/*",
        x_request_id: Named = None,
    ) -> Response:
        kind, media = negotiate(accept, form.format)
        prompts = form.request()
        order = Order(
            service.using(form.settings(service.guard)),
            await _read(form.photo),
            prompts,
            form.seed,
            kind,
            form.quality,
            preview_every=form.preview_every,
        )
        return await _answer(service, request, order, media, x_request_id)

    @app.post(
        "/v1/photos", summary="The photo with other faces in it", response_class=Response, responses=IMAGES | PROBLEMS
    )
    async def replace_faces(
        request: Request,
        form: Annotated[PhotoForm, Form(media_type="multipart/form-data")],
        accept: Accepted = "*/*",
        x_request_id: Named = None,
    ) -> Response:
        kind, media = negotiate(accept, form.format)
        order = Order(
            service.using(form.settings(service.guard)),
            await form.photo.read(),
            None,
            form.seed,
            kind,
            form.quality,
            in_place=True,
            boxes=form.boxes,
        )
        return await _answer(service, request, order, media, x_request_id)

    for path in ("/v1/portraits/{name}", "/v1/photos/{name}"):
        app.delete(
            path,
            status_code=204,
            summary="Cancel a request by its X-Request-Id",
            responses={status: PROBLEMS[status] for status in (404, 422)},
            response_class=Response,
        )(_make_cancel(service))


def _make_cancel(service: Service) -> Callable[..., Awaitable[Response]]:
    async def cancel(name: str) -> Response:
        if name not in service.running:
            raise HTTPException(404, "no request of this name is being worked on")
        service.running[name].cancel()
        return Response(status_code=204)

    return cancel


async def _answer(service: Service, request: Request, order: Order, media: str, name: str | None) -> Response:
    """Work on an order, and answer with the picture, its record or events."""
    if media == EVENTS:
        return StreamingResponse(_events(service, order, name), media_type=EVENTS)
    result = await _unless_gone(request, service.work(order, name, lambda step: None))
    if media == JSON:
        return Response(json.dumps(await asyncio.to_thread(record, order, result)), media_type=JSON)
    data = await asyncio.to_thread(encoded, order, result)
    return Response(data, media_type=media, headers={"X-Seed": str(result.seed)})


def _send(file: Path) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(file)

    return send


def _add_errors(app: FastAPI) -> None:
    """Turn all errors into problems."""

    @app.exception_handler(AnonError)
    async def known(_: Request, error: AnonError) -> Response:
        return problem_of(error)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        return problem_of_status(error.status_code, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        fields = [{"field": ".".join(map(str, one["loc"])), "message": one["msg"]} for one in error.errors()]
        detail = "; ".join(f"{one['field']}: {one['message']}" for one in fields)
        return problem(422, "fields", "A field is not valid", detail, fields=fields)

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> Response:
        # Its text is not shown, since it may hold what a photo or its name says.
        return problem(500, "internal", "An internal error", type(error).__name__)


async def _read(photo: UploadFile | None) -> bytes | None:
    return None if photo is None else await photo.read()


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Do some work, and end it when the connection is closed."""
    task = asyncio.create_task(work)

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await task
    except asyncio.CancelledError:
        raise HTTPException(499, "the connection was closed") from None
    finally:
        watcher.cancel()


async def _events(service: Service, order: Order, name: str | None) -> AsyncIterator[str]:
    """Steps, previews, and the record or the problem at the end, as server-sent events."""
    loop, steps = asyncio.get_running_loop(), asyncio.Queue[Step | None]()
    task = asyncio.ensure_future(
        service.work(order, name, lambda step: loop.call_soon_threadsafe(steps.put_nowait, step))
    )
    task.add_done_callback(lambda _: steps.put_nowait(None))
    try:
        while (step := await steps.get()) is not None:
            yield await asyncio.to_thread(step_event, step)
        try:
            yield await asyncio.to_thread(end_event, order, task.result())
        except AnonError as error:
            yield f"event: problem\ndata: {bytes(problem_of(error).body).decode()}\n\n"
        except HTTPException as error:
            body = bytes(problem_of_status(error.status_code, error.detail).body)
            yield f"event: problem\ndata: {body.decode()}\n\n"
    finally:
        task.cancel()


def _info(service: Service) -> dict[str, Any]:
    engines = service.anonymizer.engines
    manifest = engines.bundle.manifest
    return {
        "version": version("anon-engines"),
        "bundle": {"name": manifest.name, "key": manifest.key, "target": manifest.target, "tools": manifest.tools},
        "engines": {
            role: {"sha256": manifest.files[s.path].sha256, "precision": s.precision}
            for role, s in manifest.engines.items()
        },
        "image": {"width": manifest.generator.width, "height": manifest.generator.height},
        "defaults": asdict(manifest.defaults),
        "guard": service.guard,
        "modes": ["portrait", "in-place"] if _has_in_place(service.anonymizer) else ["portrait"],
        "device": engines.device,
        "limits": asdict(service.options),
    }


def _has_in_place(anonymizer: Anonymizer) -> bool:
    """Whether the bundle can replace faces in place."""
    try:
        anonymizer.check(in_place=True)
    except BundleError:
        return False
    return True
