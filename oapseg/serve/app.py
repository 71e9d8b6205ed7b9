"""The routes of a server: masks of a photo, what is served, how it fares, and a page to try it on."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from oapseg import __version__
from oapseg.serve.docs import docs_page
from oapseg.serve.kserve import kserve_routes
from oapseg.serve.masks import MaskQuery, answer, panoptic_png
from oapseg.serve.refused import Refused, error_json
from oapseg.serve.service import Service, counted
from oapseg.shards.scenes.compose import draw_scene

PAGE = Path(__file__).parent
PARTS: Final = {"page.css": "text/css", "page.js": "text/javascript"}
SAMPLES = 6  # drawn photos that the page offers
SAMPLE_PX = 448
PNG = "image/png"
MASKS: Final = "/v1/masks"
POLICY = {  # the page needs nothing but this server
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
PHOTO_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "the bytes of one photo: JPEG, PNG, WebP, TIFF, BMP, GIF, PPM or JPEG 2000",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    },
    "responses": {
        "200": {
            "description": "masks as COCO has them, or segments as COCO's panoptic PNG where `Accept: image/png` asks",
            "content": {"application/json": {}, PNG: {}},
        },
        "413": {"description": "too many bytes or pixels"},
        "415": {"description": "no photo"},
        "422": {"description": "truncated or damaged, or a query out of range"},
        "503": {"description": "busy; Retry-After says when to try again"},
    },
}


def make_app(service: Service) -> FastAPI:
    """The application; its batches run as long as it does."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.working():
            yield

    app = FastAPI(
        title="oapseg",
        description="Masks of photos.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(_masks_routes(service))
    app.include_router(kserve_routes(service))
    app.include_router(_state_routes(service))
    app.include_router(_page_routes(app))
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, partial(_bad_query, service))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)
    return app


def _masks_routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["masks"])

    @router.post(MASKS, summary="Masks of one photo", response_class=Response, openapi_extra=PHOTO_BODY)
    async def masks(request: Request, query: Annotated[MaskQuery, Query()]) -> Response:
        async with counted(service.metrics):
            png = PNG in request.headers.get("accept", "")
            asked = service.asked(query, png=png)
            if png and asked.task != "panoptic":
                raise Refused("not_acceptable", "Accept: a PNG is the answer of task panoptic alone")
            with service.places.place() as grown:
                photo = await service.upload(request, grown)

                async def work() -> Response:
                    seen = await service.seen(photo)
                    if png:
                        return Response(await service.written(panoptic_png, seen, asked), media_type=PNG)
                    return Response(await service.written(_json, seen, asked), media_type="application/json")

                return await service.whole(request, work())

    return router


def _json(*arguments: Any) -> bytes:
    """An answer as it is sent; writing some megabytes of text is work for a thread too."""
    return json.dumps(answer(*arguments), allow_nan=False, separators=(",", ":")).encode()


def _state_routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["state"])

    @router.get("/v1/model", summary="Which model is served, and since when")
    async def model() -> dict[str, Any]:
        return service.served.said()

    @router.get("/healthz", summary="200 while the process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", summary="200 while requests are welcome, 503 once the server is leaving")
    async def readyz() -> JSONResponse:
        said = "leaving" if service.leaving else "ready"
        return JSONResponse({"status": said}, 503 if service.leaving else 200)

    @router.get("/metrics", summary="For Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _page_routes(app: FastAPI) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page() -> Response:
        return Response((PAGE / "page.html").read_bytes(), media_type="text/html", headers=POLICY)

    @router.get("/page/{name}")
    async def part(name: str) -> Response:
        if name not in PARTS:
            raise HTTPException(404, f"page: no {name}")
        return Response((PAGE / name).read_bytes(), media_type=PARTS[name], headers=POLICY)

    @router.get("/sample/{number}.jpg")
    def sample(number: int) -> Response:
        if not 1 <= number <= SAMPLES:
            raise HTTPException(404, f"sample: from 1 to {SAMPLES}, is {number}")
        return Response(_sample(number), media_type="image/jpeg")

    @router.get("/docs")
    async def docs() -> Response:
        return Response(docs_page(app.openapi()), media_type="text/html", headers=POLICY)

    return router


@lru_cache(SAMPLES)
def _sample(number: int) -> bytes:
    """A photo such as `oapseg sample` draws."""
    file = io.BytesIO()
    scene = draw_scene(np.random.default_rng([0, 1, number]), SAMPLE_PX)
    Image.fromarray(scene.image).save(file, "JPEG", quality=92)
    return file.getvalue()


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.response()


async def _bad_query(service: Service, request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if request.url.path == MASKS:
        service.metrics.ended("bad_query", 0.0)
    lines = []
    for each in error.errors():
        key = ".".join(str(part) for part in each["loc"][1:])
        if each["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown; allowed are {', '.join(MaskQuery.model_fields)}")
        else:
            lines.append(f"{key}: {each['msg'][:1].lower()}{each['msg'][1:]}, is {str(each['input'])[:80]!r}")
    return Refused("bad_query", "; ".join(lines)).response()


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = error_json("no_such_route", str(error.detail))
    return Response(body, error.status_code, error.headers, "application/json")


async def _failed(_: Request, __: Exception) -> Response:
    """Our own mistake: the trace is in the log and nothing of it in the answer."""
    return Response(error_json("failed", "the server failed at this request"), 500, media_type="application/json")
