"""``/v2``: the Open Inference Protocol, so that servers of models can be swapped."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter

from classmark import __version__
from classmark.errors import ClassmarkError
from classmark.records import Paper
from classmark.service.answering.answerer import Answerer, Question
from classmark.service.answering.versions import Version
from classmark.service.http.catalogue import readyz
from classmark.service.http.classify import (
    answer_options,
    check_backlog,
    check_count,
    json_with,
    longest_paper_bytes,
    too_long,
)
from classmark.service.problems import Problem, invalid_field, problem_of, shown
from classmark.service.requests.body import check_media_type, read_body
from classmark.service.requests.exchange import Exchange, Reply
from classmark.service.requests.scan import Elements, find_arrays, validate, without
from classmark.service.requests.schemas import ClassifyOptions, InferRequest, TensorIn
from classmark.service.requests.threads import work_size
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

if TYPE_CHECKING:
    from classmark.service.http.service import Service

_REQUEST = TypeAdapter(InferRequest)
_DATA: TypeAdapter[list[str]] = TypeAdapter(Annotated[list[str], Field(fail_fast=True)])
_TEXTS = ("title", "abstract", "text")
_INPUTS = (*_TEXTS, "authors")
# name -> (datatype, shape of one paper, value of one answer)
_OUTPUTS: dict[str, tuple[str, tuple[int, ...], Callable[[Answer], Any]]] = {
    "code": ("BYTES", (-1,), lambda d: [r.code for r in d.ranked]),
    "probability": ("FP64", (-1,), lambda d: [r.probability for r in d.ranked]),
    "primary": ("BYTES", (), lambda d: [d.primary or ""]),
    "reason": ("BYTES", (), lambda d: [d.reason]),
    "set": ("BYTES", (), lambda d: [to_json(d.set).decode()]),
    "set_reason": ("BYTES", (), lambda d: [d.set_reason or ""]),
    "reliability": ("BYTES", (-1,), lambda d: [to_json(r.reliability).decode() for r in d.ranked]),
    "cross_lists": ("BYTES", (), lambda d: [to_json(d.cross_lists).decode()]),
    "evidence": ("BYTES", (), lambda d: [to_json(d.evidence).decode()]),
    "text_alone": ("BYTES", (), lambda d: [to_json(d.text_alone).decode()]),
    "prediction_id": ("BYTES", (), lambda d: [d.prediction_id]),
}
VALUES_AT_ONCE = 4096


async def server_metadata(_: Service, __: Exchange) -> Reply:
    """Name and version of the server."""
    return Reply(to_json(ServerMetadata("classmark", __version__)))


async def live(_: Service, __: Exchange) -> Reply:
    """The process is alive: it answers."""
    return Reply(to_json(Readiness(live=True)))


async def ready(service: Service, exchange: Exchange) -> Reply:
    """Requests are accepted."""
    await readyz(service, exchange)
    return Reply(to_json(Readiness(ready=True)))


async def model_ready(service: Service, exchange: Exchange) -> Reply:
    """The model answers."""
    version = _version_of(service, exchange)
    await readyz(service, exchange)
    return Reply(to_json(Readiness(name=version.ref.name, ready=True)))


async def model_metadata(service: Service, exchange: Exchange) -> Reply:
    """Tensors that the model takes and gives.

    ``title`` and/or ``abstract``, or ``text``; beside them ``authors``, the names of a paper as one
    text, "" for none.
    """
    version = _version_of(service, exchange)
    ref, given = version.ref, exchange.path_params.get("version")
    named = [one.ref.version for one in service.versions.all() if one.ref.name == ref.name]
    outputs = (
        TensorMetadata(name, datatype, (-1, *shape))
        for name, (datatype, shape, _) in _OUTPUTS.items()
    )
    found = ModelMetadata(
        name=ref.name,
        versions=(ref.version,) if given else tuple(dict.fromkeys(named)),
        platform=f"classmark_{version.model.bundle.manifest.kind}",
        inputs=tuple(TensorMetadata(name, "BYTES", (-1,)) for name in _INPUTS),
        outputs=tuple(outputs),
    )
    return Reply(to_json(found))


async def infer(service: Service, exchange: Exchange) -> Reply:
    """Classify n papers; each input is a BYTES tensor of shape [n]."""
    _version_of(service, exchange)
    check_media_type(exchange, b"application/json")
    check_backlog(service, exchange)
    body = await read_body(exchange, service.threads, service.settings.max_body_bytes)
    size = work_size(body, service.settings.max_papers, before_each=b",")
    return await service.threads.run(exchange, lambda: _answer(service, exchange, body), size)


def _answer(service: Service, exchange: Exchange, body: bytes) -> Reply:
    request = _parse(service, exchange, body)
    wanted = [output.name for output in request.outputs or ()] or list(_OUTPUTS)
    _check_names("outputs", wanted, _OUTPUTS)
    papers, authors = _papers(request.inputs)
    check_count(len(papers), service.settings.max_papers)
    answerer = service.version_of(exchange).answerer
    questions = [
        Question(_checked(answerer, paper, names, i))
        for i, (paper, names) in enumerate(zip(papers, authors, strict=True))
    ]
    top = min(request.parameters.top, len(answerer.classifier.labels))
    asked = ClassifyOptions(top=top, threshold=request.parameters.threshold)
    options = answer_options(exchange, "infer", asked, authors=request.parameters.authors)
    documents = answerer.answer_many(questions, options, exchange.check_deadline)
    exchange.facts["papers"] = len(documents)
    model = answerer.model
    answers = [document for document in documents if isinstance(document, Answer)]
    whole = Inference(
        model_name=model.name, model_version=model.version, id=request.id or None, outputs=()
    )
    outputs = b",".join([_tensor_json(name, answers, top) for name in wanted])
    return Reply(to_json(whole)[: -len(b"]}")] + outputs + b"]}")


def _parse(service: Service, exchange: Exchange, body: bytes) -> InferRequest:
    """Return a checked request, the data of its tensors validated in pieces.

    In the rest, each ``data`` is replaced by its number. A name that occurs twice, or is written
    with escapes, then leads to numbers that do not match, and the request is refused.
    """
    arrays = find_arrays(body, [b"inputs", None, b"data"], service.settings.max_papers)
    rest = without(body, arrays, [b'["%d"]' % number for number in range(len(arrays))])
    longest = longest_paper_bytes(service)
    if len(rest) > longest:
        raise too_long(service)
    request = validate(_REQUEST, rest, is_whole=not arrays)
    if [tensor.data for tensor in request.inputs] != [[str(n)] for n in range(len(arrays))]:
        raise invalid_field("inputs", "do not have one plain 'data' each")

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


def _check_names(field: str, names: list[str], known: Collection[str]) -> None:
    """Refuse names of tensors that are unknown, or there twice."""
    for place, name in enumerate(names):
        if name not in known:
            message = f"{shown(name)!r} is not one of {', '.join(known)}"
            raise invalid_field(field, message)
        if name in names[:place]:
            raise invalid_field(field, f"{name!r} is there twice; send it once")


def _papers(inputs: list[TensorIn]) -> tuple[list[Paper], list[str]]:
    """Return papers, and the authors of each as one text."""
    by_name = {tensor.name: tensor for tensor in inputs}
    _check_names("inputs", [tensor.name for tensor in inputs], _INPUTS)
    sent = [name for name in by_name if name in _TEXTS]
    if "text" in sent and len(sent) > 1:
        raise invalid_field("inputs", "'text' replaces title and abstract; send one or the other")
    counts = {_count(tensor) for tensor in inputs}
    if len(counts) != 1:
        raise invalid_field("inputs", f"have different numbers of papers: {sorted(counts)}")
    (n_papers,) = counts
    empty = [""] * n_papers
    titles, abstracts, texts, authors = (
        by_name[n].data if n in by_name else empty for n in _INPUTS
    )
    if "text" in by_name:
        return [Paper.from_text(text) for text in texts], authors
    pairs = zip(titles, abstracts, strict=True)
    return [Paper(title=title, abstract=abstract) for title, abstract in pairs], authors


def _count(tensor: TensorIn) -> int:
    n = len(tensor.data)
    if tensor.shape not in ([n], [n, 1]):
        raise invalid_field(
            "inputs", f"{shown(tensor.name)!r} has shape {tensor.shape[:4]} but {n} elements"
        )
    return n


def _checked(answerer: Answerer, paper: Paper, authors: str, index: int) -> Paper:
    try:
        return answerer.checked(replace(paper, authors=answerer.author_names(authors)))
    except ClassmarkError as error:
        problem = problem_of(error)
        raise Problem(problem.kind, f"paper {index}: {problem.detail}") from error


def _version_of(service: Service, exchange: Exchange) -> Version:
    """Return the version that an address names; without one, what answers this client.

    Raises:
        Problem: no such version is loaded.
    """
    name, version = exchange.path_params["model"], exchange.path_params.get("version")
    chosen = service.version_of(exchange)
    if chosen.ref.name == name and version in (None, chosen.ref.version):
        return chosen
    named = service.versions.named(name, version)
    if named is None:
        spec = shown(name if version is None else f"{name}@{version}")
        there = ", ".join(one.model.spec for one in service.versions.all())
        raise Problem("not_found", f"there is no model {spec!r} here, only {there}. Use that.")
    return service.hold(exchange, named)
