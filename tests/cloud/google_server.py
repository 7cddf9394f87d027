"""A local server that speaks Google's gRPC, made from the message types of Google's own clients.

It validates every field of a request, keeps what the services behind it keep, and can be made to
refuse, to be slow, or to lack a permission. Each service is a class with a method for each of
Google's, named as theirs in snake case: ``create_custom_job(request, call)``.
"""

from __future__ import annotations

import inspect
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grpc
import proto
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

# Python 3.13 takes the indentation from docstrings.
_REQUIRED = re.compile(r"^( *)(\w+) \([^)]*?\):\n(?:\1 {4}.*\n)*?\1 {4}Required\.", re.MULTILINE)


class Refusal(Exception):
    """What a service refuses a request with."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class _Method(NamedTuple):
    """A method of a service: its messages, each a class of proto-plus or of protobuf."""

    request: Any
    response: Any


class _Recorder(grpc.Channel):  # type: ignore[misc]
    """A channel that records the messages of each method when a transport asks for its stub."""

    def __init__(self) -> None:
        self.methods: dict[str, _Method] = {}

    def unary_unary(
        self,
        path: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        *_: Any,
        **_named: Any,
    ) -> Callable[..., None]:
        self.methods[path] = _Method(
            _message_of(request_serializer), _message_of(response_deserializer)
        )
        return lambda *_args, **_kwargs: None

    unary_stream = stream_unary = stream_stream = unary_unary

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        """Nothing happens that anybody could hear of."""

    def unsubscribe(self, callback: Any) -> None:
        """Nobody has subscribed."""

    def close(self) -> None:
        """Nothing is open."""


def methods_of(client: type) -> dict[str, _Method]:
    """Return the methods that a client of Google's calls, by their paths."""
    recorder = _Recorder()
    transport = client.get_transport_class("grpc")(channel=recorder)  # type: ignore[attr-defined]
    transport._logged_channel = recorder
    transport._stubs.clear()  # those made before, which go through another channel
    recorder.methods.clear()
    for name, member in inspect.getmembers(type(transport)):
        if isinstance(member, property) and not name.startswith("_"):
            try:
                getattr(transport, name)
            except (AttributeError, TypeError):  # clients of other services, e.g. operations
                continue
    return recorder.methods


def check_message(message: Any, where: str = "") -> None:
    """Refuse a message that lacks a required field, or has one that its type does not know.

    Which fields are required is what the documentation of the client's message types says.
    """
    plain: Message = type(message).pb(message) if isinstance(message, proto.Message) else message
    _check(plain, _documented(type(message)), where)


@dataclass
class Call:
    """A request as it arrived.

    Attributes:
        path: of the method, ``/google.cloud.run.v2.Services/CreateService``.
        request: the message.
        headers: the metadata of the call.
        deadline_s: how long the client waits for the answer.
    """

    path: str
    request: Any
    headers: Mapping[str, str]
    deadline_s: float

    @property
    def method(self) -> str:
        """Return the last part of the path: ``CreateService``."""
        return self.path.rpartition("/")[2]


@dataclass
class _Fault:
    code: grpc.StatusCode
    message: str
    times: int
    after: bool


@dataclass
class GoogleServer:
    """The server: services that answer, calls that arrived, operations that go on.

    Attributes:
        services: classes of Google's clients -> the object that answers their calls.
        calls: every request that arrived, the oldest first; refused ones too.
        operation_s: how long an operation takes before it is done.
    """

    services: Mapping[type, Any]
    calls: list[Call] = field(default_factory=list)
    operation_s: float = 0.0
    _faults: dict[str, list[_Fault]] = field(default_factory=lambda: defaultdict(list))
    _operations: dict[str, tuple[float, Any, Callable[[], Any]]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def fail(
        self,
        method: str,
        code: grpc.StatusCode,
        message: str = "as the test asks",
        *,
        times: int = 1,
        after: bool = False,
    ) -> None:
        """Refuse the next calls of a method.

        Args:
            method: the last part of its path, e.g. ``CreateService``.
            code: what it is refused with.
            message: the reason that is given.
            times: how many calls are refused.
            after: do what the call asks first: its answer is lost.
        """
        self._faults[method].append(_Fault(code, message, times, after))

    def called(self, method: str) -> list[Any]:
        """Return the requests of a method that arrived, the oldest first."""
        return [call.request for call in list(self.calls) if call.method == method]

    def operation(self, result: Any, metadata: Any, finish: Callable[[], Any] | None = None) -> Any:
        """Return an operation that ends after ``operation_s`` with a result.

        Args:
            result: the message that it results in, as it is now.
            metadata: message of its metadata.
            finish: called once when it ends; returns the result, or a ``Refusal`` to fail with.
        """
        name = f"operations/{len(self._operations) + 1}"
        at = time.monotonic() + self.operation_s
        self._operations[name] = (at, _packed(metadata), finish or (lambda: result))
        return self.operation_state(name)

    def operation_state(self, name: str) -> Any:
        """Return an operation as it is now."""
        with self._lock:
            if name not in self._operations:
                raise Refusal(grpc.StatusCode.NOT_FOUND, f"operation {name} does not exist")
            at, metadata, finish = self._operations[name]
            if isinstance(finish, operations_pb2.Operation):
                return finish
            state = operations_pb2.Operation(name=name, metadata=metadata)
            if time.monotonic() < at:
                return state
            state.done = True
            result = finish()
            if isinstance(result, Refusal):
                state.error.code, state.error.message = result.code.value[0], result.message
            else:
                state.response.CopyFrom(_packed(result))
            self._operations[name] = (at, metadata, state)
            return state

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve during the block; yields HOST:PORT."""
        server = grpc.server(ThreadPoolExecutor(8))
        server.add_generic_rpc_handlers(tuple(self._handlers()))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()

    def _handlers(self) -> Iterator[grpc.GenericRpcHandler]:
        tables: dict[str, dict[str, Any]] = defaultdict(dict)
        for client, service in self.services.items():
            for path, method in methods_of(client).items():
                _, name, last = path.split("/")
                if answer := getattr(service, _snake(last), None):
                    tables[name][last] = self._handler(path, method, answer)
        operation = _Method(operations_pb2.GetOperationRequest, operations_pb2.Operation)
        cancel = _Method(operations_pb2.CancelOperationRequest, empty_pb2.Empty)
        name = "google.longrunning.Operations"
        tables[name] |= {
            "GetOperation": self._handler(
                f"/{name}/GetOperation", operation, lambda r, _: self.operation_state(r.name)
            ),
            "CancelOperation": self._handler(
                f"/{name}/CancelOperation", cancel, lambda _r, _c: empty_pb2.Empty()
            ),
        }
        for name, table in tables.items():
            yield grpc.method_handlers_generic_handler(name, table)

    def _handler(self, path: str, method: _Method, answer: Callable[..., Any]) -> Any:
        def respond(request: Any, context: grpc.ServicerContext) -> Any:
            call = Call(
                path, request, dict(context.invocation_metadata()), context.time_remaining()
            )
            with self._lock:
                self.calls.append(call)
            try:
                return self._answer(call, answer)
            except Refusal as refusal:
                context.abort(refusal.code, refusal.message)

        return grpc.unary_unary_rpc_method_handler(
            respond, _reader(method.request), _writer(method.response)
        )

    def _answer(self, call: Call, answer: Callable[..., Any]) -> Any:
        fault = self._next_fault(call.method)
        if fault and not fault.after:
            raise Refusal(fault.code, fault.message)
        check_message(call.request)
        response = answer(call.request, call)
        if fault:
            raise Refusal(fault.code, fault.message)
        return response

    def _next_fault(self, method: str) -> _Fault | None:
        with self._lock:
            for fault in self._faults[method]:
                if fault.times:
                    fault.times -= 1
                    return fault
        return None


def _check(message: Message, required: frozenset[str], where: str) -> None:
    unknown = _unknown_fields(message)
    if unknown:
        raise Refusal(
            grpc.StatusCode.INVALID_ARGUMENT, f"{where or 'the request'}: unknown fields {unknown}"
        )
    for name in sorted(required):
        known = message.DESCRIPTOR.fields_by_name.get(name)
        if known is not None and not _is_set(message, known):
            raise Refusal(
                grpc.StatusCode.INVALID_ARGUMENT, f"{where}{name} is required and not set"
            )
    for known, value in message.ListFields():
        if known.message_type is None or known.message_type.GetOptions().map_entry:
            continue
        items = list(value) if known.is_repeated else [value]
        for item in items:
            _check(item, _documented(_wrapper_of(item)), f"{where}{known.name}.")


def _is_set(message: Message, known: FieldDescriptor) -> bool:
    if known.is_repeated:
        return len(getattr(message, known.name)) > 0
    if known.has_presence:
        return bool(message.HasField(known.name))
    return bool(getattr(message, known.name))


def _unknown_fields(message: Message) -> list[int]:
    from google.protobuf.unknown_fields import UnknownFieldSet

    return [unknown.field_number for unknown in UnknownFieldSet(message)]


def _documented(kind: type | None) -> frozenset[str]:
    """Return the fields that the documentation of a message type calls required."""
    return frozenset([name for _, name in _REQUIRED.findall((kind and kind.__doc__) or "")])


def _wrapper_of(message: Message) -> type | None:
    """Return the class of proto-plus for a message, if it has one."""
    from proto.marshal.marshal import Marshal

    for marshal in list(Marshal._instances.values()):
        rule = marshal._rules.get(type(message))
        if rule is not None and hasattr(rule, "_wrapper"):
            return rule._wrapper  # type: ignore[no-any-return]
    return None


def _message_of(function: Any) -> Any:
    """Return the message class whose method writes or reads a message."""
    return getattr(function, "__self__", None) or function


def _reader(kind: Any) -> Callable[[bytes], Any]:
    return kind.deserialize if hasattr(kind, "deserialize") else kind.FromString  # type: ignore[no-any-return]


def _writer(kind: Any) -> Callable[[Any], bytes]:
    if hasattr(kind, "serialize"):
        return kind.serialize  # type: ignore[no-any-return]
    return lambda message: message.SerializeToString()


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    plain = type(message).pb(message) if isinstance(message, proto.Message) else message
    packed.Pack(plain)
    return packed


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
