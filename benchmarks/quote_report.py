"""Sentences of reports/README.md, and a table of a how-to page, written from committed reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from report import SHIPPED, markdown, where_and_when

Read = Callable[[str], Any]


def accuracy(read: Read) -> str:
    """Return how often the shipped model is right on papers held out of its training."""
    report = read(f"{SHIPPED}-test")
    top_1 = [part["metrics"]["top_1"]["value"] for part in report["periods"]]
    ece = report["metrics"]["ece"]["value"]
    return (
        f"On {report['n']:,} held-out papers the packaged model puts the right one of "
        f"{len(report['categories'])} categories first for {min(top_1):.1%} to {max(top_1):.1%} "
        f"of them, by period, with a calibration error of {ece:.3f}.\n"
    )


def images(read: Read) -> str:
    """Return size and start of the image of the service, and the size of the largest."""
    found = read("containers")["images"]
    largest = max(found.values(), key=lambda image: image["megabytes"])
    return (
        f"The image of the service has {found['service']['megabytes']:.0f} MB and is ready "
        f"{found['service']['ready_s']:.1f} seconds after it was started; the largest, "
        f"`{largest['image']}`, has {largest['megabytes'] / 1000:.1f} GB.\n"
    )


def load(read: Read) -> str:
    """Return what the service answers a second, and how soon."""
    h = read("service")["headline"]
    return (
        f"Measured on two cores: {h['single_requests_per_s']:,} single papers a second with a 99th "
        f"percentile of {h['single_p99_ms']:.0f} ms, {h['batch_papers_per_s']:,} papers a second "
        f"in batches, ready after {h['ready_s']:.1f} seconds, {h['resident_mb_one_worker']} MB "
        "for one worker.\n"
    )


def breaking(read: Read) -> str:
    """Return how the service fares beyond its load, and while workers are killed."""
    r = read("faults")
    client, raw = r["kills"]["client"], r["kills"]["raw"]
    shares = [part["goodput_share"] for part in r["overload"]]
    return (
        f"At three times its peak load it still answers {min(shares):.0%} of what the peak allows "
        f"in time and refuses the rest at once. While a worker is killed every two seconds, "
        f"{client['failed']} of {client['answered'] + client['failed']:,} requests fail through "
        f"the Python client, and {raw['failed']} on plain connections that never retry.\n"
    )


def speed(read: Read) -> str:
    """Return what the measured optimisations brought."""
    fast, deep = read("fast-speed"), read("deep")["kernels"]
    kernel = fast["c"]["papers_per_cpu_second"] / fast["numpy"]["papers_per_cpu_second"]
    int8 = deep["ONNX int8"]["papers_per_cpu_s"] / deep["torch fp32"]["papers_per_cpu_s"]
    return (
        f"The C kernel scores {kernel:.1f} times as many papers per CPU-second as numpy, with the "
        f"same bits, and the encoder in ONNX with int8 weights {int8:.1f} times as many as in "
        "torch.\n"
    )


def scale(read: Read) -> str:
    """Return what the whole path takes at the size of arXiv."""
    r = read("scale")
    h = r["headline"]
    return (
        f"{r['papers'] / 1e6:.1f} million generated papers were built into a dataset in "
        f"{h['seconds']['build']:.0f} seconds, fitted in {h['seconds']['train']:.0f} and "
        f"classified at {h['classify_papers_per_s']:,} a second, in at most "
        f"{h['largest_peak_rss_gib']:.1f} GiB of memory.\n"
    )


def aims(read: Read) -> str:
    """Return which aims of the service its measurement reaches, and which it misses."""
    r = read("service")
    h, wanted = r["headline"], r["aims"]
    return (
        f"It serves {h['single_requests_per_s']:,} papers a second where "
        f"{wanted['single_requests_per_s']:,} were the aim, and {h['share_of_echo']:.2f} of a bare "
        f"echo where {wanted['share_of_echo']:.2f} were.\n"
    )


def findings(read: Read) -> str:
    """Return what profiles led to, with CPU seconds before and after, as a table with its note."""
    report = read("profile")
    rows = [
        (
            f"{found['workload']}, `{found['after']['commit']}`",
            found["seen"],
            found["mended"],
            f"{found['before']['cpu_s']:.2f}",
            f"{found['after']['cpu_s']:.2f}",
        )
        for found in report["findings"]
    ]
    table = markdown(("command, commit", "seen", "mended", "before", "after"), rows, rest="---")
    n_turns = min(len(end["each"]) for found in report["findings"] for end in sides(found))
    return (
        f"{table}\n*CPU seconds for {report['papers']:,} papers, the median of {n_turns} turns or "
        f"more. {where_and_when(report)}.*\n"
    )


def sides(found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a finding's command took before and after."""
    return found["before"], found["after"]


BLOCKS: dict[str, Callable[[Read], str]] = {
    "report_accuracy": accuracy,
    "report_images": images,
    "report_load": load,
    "report_breaking": breaking,
    "report_speed": speed,
    "report_scale": scale,
    "report_aims": aims,
    "findings": findings,
}
