"""KServe's two protocols for the same masks: V1 (`:predict`, photos as base64) and the Open Inference Protocol (V2)."""

import asyncio
import base64
import binascii
import json
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from oapseg import __version__
from oapseg.serve.masks import MaskQuery, answer
from oapseg.serve.refused import Refused
from oapseg.serve.service import Service, counted

BASE64 = 4 / 3  # characters a byte
FRAME_BYTES = 100_000  # of JSON around the photos

Photos = Annotated[list[Any], Field(min_length=1)]


class Instances(BaseModel):
    """V1: `{"instances": [{"image": {"b64": "..."}}], "parameters": {"task": "panoptic"}}`."""

    model_config = ConfigDict(extra="ignore")

    instances: Photos
    parameters: MaskQuery = MaskQuery()


class Tensor(BaseModel):
    """An input of V2."""

    model_config = ConfigDict(extra="ignore")

    name: str
    datatype: str
    shape: list[int]
    data: Photos


class Inference(BaseModel):
    """V2: one input of photos, `{"name": "photos", "datatype": "BYTES", "shape": [1], "data": ["base64"]}`."""

    model_config = ConfigDict(extra="ignore")

    id: str | None = None
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=1)]
    parameters: MaskQuery = MaskQuery()


def kserve_routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["KServe"])

    def check_name(name: str) -> None:
        if name != service.name:
            raise Refused("unknown_model", f"{name[:80]}: no such model; served is {service.name}")

    async def masks(name: str, request: Request, form: type[BaseModel]) -> tuple[Any, list[dict[str, Any]]]:
        """The request, and an answer for each of its photos."""
        most_bytes = round(service.settings.upload_mb * 1_000_000 * BASE64) + FRAME_BYTES
        async with counted(service.metrics):
            check_name(name)
            with service.places.place() as grown:
                said = _parsed(await service.upload(request, grown, most_bytes), form)
                photos = _photos(said)
                if len(photos) > service.settings.batch:
                    raise Refused(
                        "too_many_photos", f"{len(photos)} photos; at most {service.settings.batch} at a time"
                    )
                with service.places.place(len(photos) - 1):
                    return said, await service.whole(request, each(photos, said.parameters))

    async def each(photos: list[bytes], query: MaskQuery) -> list[dict[str, Any]]:
        asked = service.asked(query)

        async def one(photo: bytes) -> dict[str, Any]:
            return await service.written(answer, await service.seen(photo), asked)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(photo)) for photo in photos]
        return [task.result() for task in tasks]

    @router.get("/v1/models", summary="V1: the one model")
    async def models() -> dict[str, Any]:
        return {"models": [service.name]}

    @router.get("/v1/models/{name}", summary="V1: whether the model is ready")
    async def model_ready(name: str) -> JSONResponse:
        check_name(name)
        return JSONResponse({"name": name, "ready": not service.leaving}, 503 if service.leaving else 200)

    @router.post("/v1/models/{name}:predict", summary="V1: masks of photos, each as {image: {b64: ...}}")
    async def predict(name: str, request: Request) -> Response:
        _, answers = await _first(masks(name, request, Instances))
        return JSONResponse({"predictions": answers})

    @router.get("/v2", summary="V2: the server")
    async def server() -> dict[str, Any]:
        return {"name": "oapseg", "version": __version__, "extensions": []}

    @router.get("/v2/health/live", summary="V2: 200 while the process lives")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/v2/health/ready", summary="V2: 200 while requests are welcome")
    async def ready() -> JSONResponse:
        return JSONResponse({"ready": not service.leaving}, 503 if service.leaving else 200)

    @router.get("/v2/models/{name}", summary="V2: the model's inputs and outputs")
    async def metadata(name: str) -> dict[str, Any]:
        check_name(name)
        said = service.served.named
        bytes_of = {"datatype": "BYTES", "shape": [-1]}
        return {
            "name": name,
            "versions": [said.version] if said.version else [],
            "platform": "oapseg",
            "inputs": [{"name": "photos", **bytes_of}],
            "outputs": [{"name": "masks", **bytes_of}],
        }

    @router.get("/v2/models/{name}/ready", summary="V2: whether the model is ready")
    async def v2_model_ready(name: str) -> JSONResponse:
        check_name(name)
        return await ready()

    @router.post("/v2/models/{name}/infer", summary="V2: masks of photos, base64 in, JSON texts out")
    async def infer(name: str, request: Request) -> Response:
        said, answers = await _first(masks(name, request, Inference))
        output = {
            "name": "masks",
            "datatype": "BYTES",
            "shape": [len(answers)],
            "data": [json.dumps(each) for each in answers],
        }
        found = {"model_name": name, "model_version": answers[0]["model"]["version"], "outputs": [output]}
        return JSONResponse(found | ({"id": said.id} if said.id else {}))

    return router


async def _first(work: Any) -> Any:
    """Of the errors of several photos of one request, one."""
    try:
        return await work
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


def _parsed(body: bytes, form: type[BaseModel]) -> Any:
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise Refused("bad_json", f"{where}: {first['msg']}; expected is {form.__doc__}") from None


def _photos(said: Any) -> list[bytes]:
    """The photos of either protocol.

    Errors: `Refused` naming the one that is none.
    """
    texts = said.instances if isinstance(said, Instances) else said.inputs[0].data
    photos = []
    for number, text in enumerate(texts):
        for key in ("image", "image_bytes", "b64"):
            text = text.get(key, text) if isinstance(text, dict) else text
        if not isinstance(text, str):
            raise Refused("bad_json", f"photo {number}: must be base64 text, or {{image: {{b64: text}}}}")
        try:
            photos.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            raise Refused("bad_json", f"photo {number}: not base64") from None
    return photos
