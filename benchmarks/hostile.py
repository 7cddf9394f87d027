"""Hostile requests of many kinds, sent as fast as a service takes them.

python benchmarks/hostile.py URL N [--key KEY]

Each request has a connection of its own, from one of a few addresses of this machine, and goes on
as an attacker would: some never end, some are never read. Prints, for each kind, how often it was
sent and what came back, as JSON. ``faults.py`` runs it beside honest clients.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import io
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

CONNECTIONS = 32
SOURCES = [f"127.0.0.{i}" for i in range(2, 10)]
PATIENCE_S = 30.0
HOLD_S = 0.3
MIB = 1 << 20


@dataclass(frozen=True)
class Kind:
    """One way to be hostile.

    Attributes:
        make: the bytes to send, of the header fields that every request has.
        weight: how often it is sent, among the others.
        holds: nothing is read; the connection stays open for a while, then breaks.
    """

    make: Callable[[str], bytes]
    weight: int = 100
    holds: bool = False


def post(path: str, body: bytes, fields: str, media_type: str = "application/json") -> bytes:
    """Return a whole request."""
    head = f"POST {path} HTTP/1.1\r\n{fields}Content-Type: {media_type}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def elements(n: int, key: str = "papers") -> bytes:
    """Return a list of n numbers where papers are expected."""
    return b'{"%s":[%s]}' % (key.encode(), b",".join([b"1"] * n))


def form(name: str, content: bytes) -> bytes:
    """Return a form with one file."""
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--b--\r\n"


def send_file(name: str, content: bytes) -> Callable[[str], bytes]:
    """Return what posts a file."""
    body = form(name, content)
    return lambda fields: post("/v1/files", body, fields, "multipart/form-data; boundary=b")


def parquet_bomb() -> bytes:
    """Return a small Parquet file that says one long abstract a hundred thousand times."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.DictionaryArray.from_arrays(
        pa.array([0] * 100_000, pa.int32()), pa.array(["graph " * 20_000])
    )
    sink = io.BytesIO()
    pq.write_table(pa.table({"title": text, "abstract": text}), sink, compression="zstd")
    return sink.getvalue()


def chunked(trailer: bytes) -> Callable[[str], bytes]:
    """Return what posts a paper in chunks, with something after it."""
    paper = b'{"title":"Graphs","abstract":"We colour sparse graphs."}'
    chunks = b"%x\r\n%s\r\n0\r\n" % (len(paper), paper)
    head = "POST /v1/classify HTTP/1.1\r\n{}Content-Type: application/json\r\n"
    return lambda fields: (
        head.format(fields).encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + trailer
    )


def plain(head: str, end: bytes = b"\r\n\r\n") -> Callable[[str], bytes]:
    """Return what sends a header; ``{}`` in it is where the usual fields go."""
    return lambda fields: head.format(fields).encode() + end


def all_kinds() -> dict[str, Kind]:
    """Return every kind by name."""
    paper = b'{"title":"Graphs","abstract":"We colour sparse graphs."}'
    many = json.dumps({"papers": [{"abstract": "Graphs."}] * 1000, "top": 149}).encode()
    unknown = json.dumps(dict.fromkeys(map(str, range(999)))).encode()
    half = "Content-Type: application/json\r\nContent-Length: 900\r\n"

    def classify(body: bytes) -> Callable[[str], bytes]:
        return lambda fields: post("/v1/classify", body, fields)

    return {
        "address with a line end": Kind(lambda f: post("/v1/classify%0a", paper, f)),
        "metrics with a line end": Kind(plain("GET /metrics%0a HTTP/1.1\r\n{}", b"\r\n")),
        "no key": Kind(lambda _: post("/v1/classify", paper, "Host: localhost\r\n")),
        "wrong key": Kind(
            lambda _: post("/v1/classify", paper, "Host: localhost\r\nX-API-Key: cmk_0_0\r\n")
        ),
        "foreign host": Kind(lambda _: post("/v1/classify", paper, "Host: evil.example\r\n")),
        "another site's form": Kind(
            lambda f: post("/v1/classify", paper, f + "Sec-Fetch-Site: cross-site\r\n")
        ),
        "1,001 elements": Kind(classify(elements(1001))),
        "8 MB of elements": Kind(classify(elements(4 * MIB - 100)), weight=1),
        "V2 elements": Kind(
            lambda f: post("/v2/models/fast/infer", elements(50_000, "inputs"), f), weight=10
        ),
        "feedback with unknown keys": Kind(lambda f: post("/v1/feedback", unknown, f)),
        "deep nesting": Kind(classify(b'{"papers":' + b"[" * 20_000)),
        "half a surrogate in a key": Kind(classify(b'{"\\ud800":1,"abstract":"Graphs."}')),
        "an id of 100,000 digits": Kind(classify(b'{"abstract":"x","id":%s}' % (b"9" * 100_000))),
        "no JSON": Kind(classify(b"\xff" * 500)),
        "64 KB field": Kind(plain("GET / HTTP/1.1\r\n{}X-Long: " + "x" * 65_536)),
        "16 MB field": Kind(plain("GET / HTTP/1.1\r\n{}X-Long: " + "x" * (16 * MIB)), weight=1),
        "64 KB name": Kind(plain("GET / HTTP/1.1\r\n{}" + "x" * 65_536 + ": 1")),
        "64 KB address": Kind(plain("GET /" + "x" * 65_536 + " HTTP/1.1\r\n{}")),
        "2,000 fields": Kind(plain("GET / HTTP/1.1\r\n{}" + "X-A: bcdefghijklmnopqr\r\n" * 2000)),
        "trailer of 64 KB": Kind(chunked(b"X-Long: " + b"x" * 65_536 + b"\r\n\r\n")),
        "key in a trailer": Kind(chunked(b"X-API-Key: cmk_0_0\r\n\r\n")),
        "h2c upgrade": Kind(
            lambda f: post("/v1/classify", paper, f + "Connection: Upgrade\r\nUpgrade: h2c\r\n")
        ),
        "no host": Kind(plain("GET /healthz HTTP/1.1", b"\r\n\r\n")),
        "two hosts": Kind(plain("GET /healthz HTTP/1.1\r\n{}Host: other\r\n", b"\r\n")),
        "two lengths": Kind(
            lambda f: (
                b"POST /v1/classify HTTP/1.1\r\n"
                + f.encode()
                + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}"
            )
        ),
        "no HTTP": Kind(lambda _: b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n"),
        "slow body": Kind(plain("POST /v1/classify HTTP/1.1\r\n{}" + half, b"\r\n{"), holds=True),
        "half a header": Kind(plain("POST /v1/classify HTTP/1.1\r\n{}X-", b""), holds=True),
        "answers that are not read": Kind(classify(many), weight=5, holds=True),
        "Parquet bomb": Kind(send_file("p.parquet", parquet_bomb()), weight=1),
        "gzip bomb": Kind(
            send_file("p.csv.gz", gzip.compress(b"title,abstract\n" + b"a," * (64 * MIB))), weight=1
        ),
        "BibTeX bomb": Kind(send_file("p.bib", b"@article{a, title={" + b"{" * MIB), weight=1),
        "broken CSV": Kind(send_file("p.csv", b'title,abstract\n"' + b"a,b\n" * 2000), weight=20),
    }


async def send(host: str, port: int, kind: Kind, fields: str, source: str) -> str:
    """Send one request; return the status of the answer, or what happened to the connection."""
    try:
        reader, writer = await asyncio.open_connection(host, port, local_addr=(source, 0))
    except OSError as error:
        return f"not connected: {type(error).__name__}"
    try:
        writer.write(kind.make(fields))
        if kind.holds:
            await asyncio.sleep(HOLD_S)
            return "held"
        async with asyncio.timeout(PATIENCE_S):
            head = await reader.readuntil(b"\r\n")
        return head[9:12].decode("latin-1")
    except asyncio.IncompleteReadError:
        return "closed"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return type(error).__name__
    finally:
        writer.transport.abort()


async def attack(url: str, n: int, key: str | None) -> dict[str, Counter[str]]:
    """Send n requests and return what came back, by kind."""
    host, port = url.removeprefix("http://").split(":")
    fields = "Host: localhost\r\n" + (f"X-API-Key: {key}\r\n" if key else "")
    kinds, chance = all_kinds(), random.Random(0)
    names = chance.choices(list(kinds), [kind.weight for kind in kinds.values()], k=n)
    seen: dict[str, Counter[str]] = {name: Counter() for name in kinds}

    async def connection(place: int) -> None:
        for i in range(place, n, CONNECTIONS):
            source = SOURCES[i % len(SOURCES)]
            seen[names[i]][await send(host, int(port), kinds[names[i]], fields, source)] += 1

    await asyncio.gather(*(connection(i) for i in range(CONNECTIONS)))
    return seen


def main() -> None:
    """Attack, and print what came back."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("n", type=int)
    parser.add_argument("--key")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(attack(options.url, options.n, options.key))))


if __name__ == "__main__":
    main()
