"""``/v2``: the Open Inference Protocol, so that servers of models can be swapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import Field, TypeAdapter

from classmark import __version__
from classmark.records import Paper
from classmark.service.answering import Options
from classmark.service.backlog import work_size
from classmark.service.body import check_media_type, read_body
from classmark.service.catalogue import readyz
from classmark.service.classify import (
    check_count,
    count_papers,
    json_with,
    longest_paper_bytes,
    too_long,
)
from classmark.service.document import json_request
from classmark.service.examples import INFER
from classmark.service.exchange import Exchange, Reply
from classmark.service.problems import Problem, shown
from classmark.service.recording import Question
from classmark.service.routes import add_route, as_route
from classmark.service.scan import Elements, find_arrays, validate, without
from classmark.service.schemas import (
    InferRequest,
    TensorIn,
)
from classmark.service.state import Service
from classmark.wire import (
    Answer,
    Inference,
    ModelMetadata,
    Readiness,
    ServerMetadata,
    Tensor,
    TensorMetadata,
    to_json,
)

_REQUEST = TypeAdapter(InferRequest)
_DATA: TypeAdapter[list[str]] = TypeAdapter(Annotated[list[str], Field(fail_fast=True)])
_INPUTS = ("title", "abstract", "text")
# name -> (datatype, shape of one paper, value of one answer)
_OUTPUTS: dict[str, tuple[str, tuple[int, ...], Callable[[Answer], Any]]] = {
    "code": ("BYTES", (-1,), lambda d: [r.code for r in d.ranked]),
    "probability": ("FP64", (-1,), lambda d: [r.probability for r in d.ranked]),
    "primary": ("BYTES", (), lambda d: [d.primary or ""]),
    "reason": ("BYTES", (), lambda d: [d.reason]),
    "set": ("BYTES", (), lambda d: [to_json(d.set).decode()]),
    "set_reason": ("BYTES", (), lambda d: [d.set_reason or ""]),
    "reliability": (
        "BYTES",
        (-1,),
        lambda d: [to_json(r.reliability).decode() for r in d.ranked],
    ),
    "cross_lists": ("BYTES", (), lambda d: [to_json(d.cross_lists).decode()]),
    "prediction_id": ("BYTES", (), lambda d: [d.prediction_id]),
}
VALUES_AT_ONCE = 4096
_PLACES = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


def add_routes(app: FastAPI, service: Service) -> None:
    """Add the endpoints of the protocol."""
    model = service.answerer.model
    loaded = {"model": model.name, "version": model.version}

    def add(path: str, endpoint: Any, schema: type, summary: str, **more: Any) -> None:
        names = [name for name in ("model", "version") if f"{{{name}}}" in path]
        parameters = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "enum": [loaded[name]]},
            }
            for name in names
        ]
        add_route(
            app,
            path,
            as_route(service, endpoint),
            more.pop("access", "public"),
            methods=[more.pop("method", "GET")],
            response_model=schema,
            tags=["open inference protocol"],
            summary=summary,
            openapi_extra={"parameters": parameters, **more},
        )

    add("/v2", server_metadata, ServerMetadata, "Metadata of the server")
    add("/v2/health/live", live, Readiness, "Tell that the server lives", access="health")
    add("/v2/health/ready", ready, Readiness, "Tell whether requests are wanted", access="health")
    classifies = {"access": "classify", "method": "POST"}
    body = json_request([InferRequest], {"papers": INFER})
    for place in _PLACES:
        add(place, model_metadata, ModelMetadata, "Metadata of the model")
        add(f"{place}/ready", model_ready, Readiness, "Tell whether the model answers")
        add(f"{place}/infer", infer, Inference, "Classify papers", **classifies, **body)


async def server_metadata(_: Service, __: Exchange) -> Reply:
    """Name and version of the server."""
    return Reply(to_json(ServerMetadata("classmark", __version__)))


async def live(_: Service, __: Exchange) -> Reply:
    """The process lives: it answers."""
    return Reply(to_json(Readiness(live=True)))


async def ready(service: Service, exchange: Exchange) -> Reply:
    """Requests are wanted."""
    await readyz(service, exchange)
    return Reply(to_json(Readiness(ready=True)))


async def model_ready(service: Service, exchange: Exchange) -> Reply:
    """The model answers."""
    _check_model(service, exchange)
    await readyz(service, exchange)
    return Reply(to_json(Readiness(name=service.answerer.model.name, ready=True)))


async def model_metadata(service: Service, exchange: Exchange) -> Reply:
    """Tensors that the model takes and gives: ``title`` and/or ``abstract``, or ``text``."""
    _check_model(service, exchange)
    model = service.answerer.model
    outputs = (
        TensorMetadata(name, datatype, (-1, *shape))
        for name, (datatype, shape, _) in _OUTPUTS.items()
    )
    found = ModelMetadata(
        name=model.name,
        versions=(model.version,),
        platform=f"classmark_{service.model.bundle.manifest.kind}",
        inputs=tuple(TensorMetadata(name, "BYTES", (-1,)) for name in _INPUTS),
        outputs=tuple(outputs),
    )
    return Reply(to_json(found))


async def infer(service: Service, exchange: Exchange) -> Reply:
    """Classify n papers; each input is a BYTES tensor of shape [n]."""
    _check_model(service, exchange)
    check_media_type(exchange, b"application/json")
    service.check_backlog(exchange)
    body = await read_body(service, exchange, service.settings.max_body_bytes)
    size = work_size(body, service.settings.max_papers, before_each=b",")
    return await service.in_thread(exchange, lambda: _answer(service, exchange, body), size)


def _answer(service: Service, exchange: Exchange, body: bytes) -> Reply:
    request = _parse(service, exchange, body)
    wanted = [output.name for output in request.outputs or ()] or list(_OUTPUTS)
    unknown = [name for name in wanted if name not in _OUTPUTS]
    if unknown or len(set(wanted)) < len(wanted):
        seen = shown(unknown[0]) if unknown else "a name twice"
        raise _invalid("outputs", f"{seen!r} is none of {', '.join(_OUTPUTS)}, each once")
    papers = _papers(request.inputs)
    check_count(service, len(papers))
    questions = [Question(_checked(service, paper, i)) for i, paper in enumerate(papers)]
    n_labels = len(service.answerer.classifier.labels)
    options = Options(
        min(request.parameters.top, n_labels),
        request.parameters.threshold,
        deadline=exchange.deadline,
    )
    documents = service.answerer.answer_many(
        list(questions), options, service.recorder(exchange, "infer"), exchange.check_deadline
    )
    count_papers(service, exchange, documents)
    model = service.answerer.model
    answers = [document for document in documents if isinstance(document, Answer)]
    whole = Inference(
        model_name=model.name, model_version=model.version, id=request.id or None, outputs=()
    )
    outputs = b",".join([_tensor_json(name, answers, options.top) for name in wanted])
    return Reply(to_json(whole)[: -len(b"]}")] + outputs + b"]}")


def _parse(service: Service, exchange: Exchange, body: bytes) -> InferRequest:
    """Return a checked request, the data of its tensors validated in pieces.

    In place of each ``data`` the rest has its number, so that what belongs together is found again
    whichever data a name that is there twice, or written with escapes, would leave.
    """
    arrays = find_arrays(body, [b"inputs", None, b"data"], service.settings.max_papers)
    rest = without(body, arrays, [b'["%d"]' % number for number in range(len(arrays))])
    longest = longest_paper_bytes(service)
    if len(rest) > longest:
        raise too_long(service)
    request = validate(_REQUEST, rest, is_whole=not arrays)
    if [tensor.data for tensor in request.inputs] != [[str(n)] for n in range(len(arrays))]:
        raise _invalid("inputs", "do not have one plain 'data' each")

    def refuse() -> str:
        raise too_long(service)

    for number, (tensor, array) in enumerate(zip(request.inputs, arrays, strict=True)):
        elements = Elements(_DATA, ("inputs", number, "data"), longest, refuse)
        tensor.data = elements.validate(body, array, exchange.check_deadline)
    return request


def _tensor_json(name: str, answers: list[Answer], top: int) -> bytes:
    datatype, shape, value_of = _OUTPUTS[name]
    tensor = Tensor(name, datatype, (len(answers), top) if shape else (len(answers),))
    data = [value for answer in answers for value in value_of(answer)]
    return json_with(tensor, "data", data, VALUES_AT_ONCE)


def _papers(inputs: list[TensorIn]) -> list[Paper]:
    by_name = {tensor.name: tensor for tensor in inputs}
    unknown = [name for name in by_name if name not in _INPUTS]
    if unknown or len(by_name) < len(inputs):
        seen = shown(unknown[0]) if unknown else "a name twice"
        raise _invalid("inputs", f"{seen!r} is none of {', '.join(_INPUTS)}, each once")
    if "text" in by_name and len(by_name) > 1:
        raise _invalid("inputs", "'text' stands in place of title and abstract")
    counts = {_count(tensor) for tensor in inputs}
    if len(counts) != 1:
        raise _invalid("inputs", f"have different numbers of papers: {sorted(counts)}")
    if "text" in by_name:
        return [Paper.from_text(text) for text in by_name["text"].data]
    (n_papers,) = counts
    empty = [""] * n_papers
    titles, abstracts = (by_name[n].data if n in by_name else empty for n in _INPUTS[:2])
    pairs = zip(titles, abstracts, strict=True)
    return [Paper(title=title, abstract=abstract) for title, abstract in pairs]


def _count(tensor: TensorIn) -> int:
    n = len(tensor.data)
    if tensor.shape not in ([n], [n, 1]):
        raise _invalid(
            "inputs", f"{shown(tensor.name)!r} has shape {tensor.shape[:4]} but {n} elements"
        )
    return n


def _checked(service: Service, paper: Paper, index: int) -> Paper:
    try:
        return service.answerer.checked(paper)
    except Problem as problem:
        raise Problem(problem.kind, f"paper {index}: {problem.detail}") from problem


def _check_model(service: Service, exchange: Exchange) -> None:
    given, model = exchange.scope["path_params"], service.answerer.model
    if given["model"] != model.name or given.get("version", model.version) != model.version:
        spec = shown("@".join(str(given[n]) for n in ("model", "version") if n in given))
        raise Problem(
            "not_found", f"there is no model {spec!r} here, only {service.model.spec}. Use that."
        )


def _invalid(field: str, message: str) -> Problem:
    return Problem(
        "invalid_request", f"{field}: {message}.", errors=[{"field": field, "message": message}]
    )
