"""Addresses written in every way that might get past a rule, and requests that hold them."""

from __future__ import annotations

import json
import re
import socket
from urllib.parse import unquote

from hypothesis import strategies as st

PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs."}
BODY = json.dumps(PAPER).encode()
PREDICTION = "0" * 26
PROTECTED = [
    ("POST", "/v1/classify", "classify"),
    ("POST", "/v1/files", "classify"),
    ("POST", "/v2/models/fast/infer", "classify"),
    ("POST", "/v2/models/fast/versions/VERSION/infer", "classify"),
    ("POST", "/v1/feedback", "feedback"),
    ("GET", f"/v1/predictions/{PREDICTION}", "admin"),
    ("GET", "/v1/status", "admin"),
    ("GET", "/metrics", "admin"),
]
METHODS = ["GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "QUERY"]
_CONTROLS = ["%0a", "%0d", "%0d%0a", "%00", "%09", "%1f", "%7f", "%0b", "%c2%85", "%e2%80%a8"]
_BEHIND = ["", "/", "//", "/.", ";", ";x=1", ".", "%20", "%2f", "%23", "%3f", "?x", "?", *_CONTROLS]
_BEFORE = ["", "/", "/.", "/x/..", "/%2e", "/%2e%2e", "%2f", ";", "http://here", "HTTP://u@h:1"]


def percent_encoded(chance: float, text: str) -> str:
    """Return an address with some of its characters percent-encoded."""
    n = round(chance * len(text))
    return text[:n] + "".join(f"%{ord(c):02x}" for c in text[n : n + 2]) + text[n + 2 :]


@st.composite
def targets(draw: st.DrawFn, address: str) -> str:
    """Return an address written in another way, as a request has it."""
    change = draw(
        st.sampled_from(
            [
                lambda text: text,
                str.upper,
                str.title,
                lambda text: text.replace("/", "//"),
                lambda text: text.replace("/", "/./"),
                lambda text: text.replace("/", "%2f"),
                lambda text: percent_encoded(draw(st.floats(0, 1)), text),
                lambda text: text.replace("e", "%65"),
                lambda text: text[:2] + draw(st.sampled_from(_CONTROLS)) + text[2:],
            ]
        )
    )
    behind = "".join(draw(st.lists(st.sampled_from(_BEHIND), max_size=3)))
    return draw(st.sampled_from(_BEFORE)) + str(change(address)) + behind


def path_of(target: str) -> str:
    """Return the path that the server gives the application for a target."""
    return unquote(re.sub(r"(?i)^http://[^/]*", "", target).partition("?")[0].partition("#")[0])


def raw_status(place: str, method: str, target: bytes, headers: str = "") -> int:
    """Return the status of a request whose target is sent as it is; 0 if none came."""
    if "Host:" not in headers:
        headers += "Host: localhost\r\n"
    head = f" HTTP/1.1\r\n{headers}Connection: close\r\nContent-Type: application/json\r\n"
    length = f"Content-Length: {len(BODY)}\r\n\r\n"
    with opened(place) as connection:
        connection.sendall(method.encode() + b" " + target + f"{head}{length}".encode() + BODY)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    return int(answer.split()[1]) if answer else 0


def opened(place: str) -> socket.socket:
    """Return a connection to an URL, or to the socket of a path."""
    if place.startswith("http://"):
        host, _, port = place.removeprefix("http://").rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=60)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    try:
        connection.connect(place)
    except OSError:
        connection.close()
        raise
    return connection


def hostile_targets(address: str) -> list[bytes]:
    """Return ways to write an address on the wire."""
    texts = [before + address + behind for before in _BEFORE for behind in _BEHIND]
    texts += [percent_encoded(n / len(address), address) for n in range(len(address))]
    texts += [address.replace("/", part) for part in ("//", "/./", "%2f", "\\")]
    texts += [address.upper(), address[1:], "*", "?" + address, "#" + address, address + "#x"]
    return [text.encode() for text in texts] + [
        address.encode() + b"\xff",
        address.encode() + b"\t",
    ]
