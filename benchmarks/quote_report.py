"""Sentences of reports/README.md, and a table of a how-to page, written from committed reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from report import REPORTS, SHIPPED, markdown, where_and_when

Read = Callable[[str], Any]
COST_REQUESTS = 10_000


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


def storm(read: Read) -> str:
    """Return what a storm did to the service, as a table; nothing before there was one."""
    if not (REPORTS / "storm.json").exists():
        return ""
    r = read("storm")
    h, client = r["headline"], r["client"]["answered"]
    memory = [mb for _, mb in r["memory_mb"]]
    rows = [
        ("requests (minutes)", f"{h['requests']:,} ({h['minutes']:.0f})"),
        (
            "failed through the Python client",
            f"{h['failed_through_the_client']} of {client + h['failed_through_the_client']:,}",
        ),
        ("failed on connections that do not try again", f"{h['failed_raw']:,}"),
        (
            "sampled answers that differ from the offline ones of their version",
            f"{h['wrong_answers']} of {r['sampled']:,}",
        ),
        (
            "from a change to the last worker, s: median (slowest)",
            f"{h['swap_median_s']:.2f} ({h['swap_s']:.2f})",
        ),
        (
            "p99 around a replacement, ms (in quiet times)",
            f"{h['p99_swap_ms']:.0f} ({h['p99_quiet_ms']:.0f})",
        ),
        (
            "most memory of all processes, MB: first half (second half)",
            f"{max(memory[: len(memory) // 2])} ({max(memory[len(memory) // 2 :])})",
        ),
    ]
    return (
        markdown(["measured", "value"], rows) + f"\n{where_and_when(r)}; load on the same cores.\n"
    )


def profile(read: Read) -> str:
    """Return the CPU time of three commands before and after what their profiles led to."""
    found = read("profile")
    seconds = [
        f"`{name}` took {found['before'][name]['cpu_s']:.1f} CPU-seconds before and "
        f"{found['after'][name]['cpu_s']:.1f} after"
        for name in ("train", "export")
    ]
    return f"On {found['papers']:,} papers {', '.join(seconds)}, with the same results.\n"


def cost(_: Read) -> str:
    """Return the estimated cost of a month on Google Cloud, and its largest lines."""
    from classmark.cloud.cost import Load, estimate

    with_sql = estimate(Load(requests_per_day=COST_REQUESTS))
    without = estimate(Load(requests_per_day=COST_REQUESTS, has_database=False))
    largest = sorted(with_sql.lines, key=lambda line: -line.high)[:3]
    lines = [f"`{line.name}` {line.low:.0f} to {line.high:.0f}" for line in largest]
    return (
        f"For {COST_REQUESTS:,} requests a day it is {with_sql.low:.0f} to {with_sql.high:.0f} "
        f"{with_sql.currency} a month, and {without.low:.0f} to {without.high:.0f} without a "
        f"database. The largest lines are {', '.join(lines)}. {with_sql.caution[0].upper()}"
        f"{with_sql.caution[1:]}.\n"
    )


def drift_alarms(read: Read) -> str:
    """Return false alarms, power and sizes on real papers; nothing before there was a report."""
    if not (REPORTS / "drift-alarms.json").exists():
        return ""
    r = read("drift-alarms")
    false = [
        (
            f"nothing has changed, {row['papers']:,} papers",
            *(f"{row['alarms'][alpha]['whole']:.1%}" for alpha in ("0.05", "0.01")),
            "",
        )
        for row in r["false_alarms"]
    ]
    found = [
        (
            f"{row['share']:.0%} of 1,000 papers from a hidden category",
            *(f"{row['alarms'][alpha]:.1%}" for alpha in ("0.05", "0.01")),
            f"{row['size']:.1%}",
        )
        for row in r["power"]
    ]
    head = ["papers of a window", "alarms at alpha 0.05", "at 0.01", "mean size"]
    words = (
        f"\n{min(x['trials'] for x in r['false_alarms']):,} windows of each length or more where "
        f"nothing has changed, {r['power'][0]['trials']:,} of each other kind. "
        f"{where_and_when(r)}.\n"
    )
    return markdown(head, [*false, *found]) + words


STREAM_START = 2_000  # papers before the shift, as in drift_alarms.py


def drift_beside(read: Read) -> str:
    """Return names, sizes and the stream in words, and our test beside the kernel test."""
    r = read("drift-alarms")
    known = r["power_known"][-1]
    hidden = next(row for row in r["power"] if row["share"] == known["share"])
    means = [row["mean"] for row in r["sizes"]["0.1"]]
    quiet, *shifted = r["streams"]
    seldom, often, late = shifted
    words = (
        f"If {known['share']:.0%} of the papers come from a category that the model knows, it is "
        f"among the three named first in {known['named_category']:.0%} of the alarms. If they come "
        "from a hidden one, the category named first is one of the three that its papers are put "
        f"into in {hidden['named_category']:.0%}, and, where texts are kept, the three words named "
        f"first are all typical of the hidden category in {hidden['named_words']:.0%}; at least "
        f"one of the two is true in {hidden['named_right']:.0%}. For a share of 10%, the mean size "
        f"is {min(means):.1%} to {max(means):.1%} in windows of 200 to 5,000 papers.\n\n"
        f"Of {quiet['trials']} streams of {quiet['papers']:,} papers without a change, "
        f"{quiet['alarms']['0.01']:.1%} alarm (alpha 0.01). When {late['share']:.0%} come from a "
        "hidden category, the stream alarms after a median of "
        f"{late['median_delay']['0.01']:,.0f} papers; a share of {often['share']:.0%} is noticed "
        f"by {often['alarms']['0.01']:.0%} of the streams within "
        f"{quiet['papers'] - STREAM_START:,} papers, one of {seldom['share']:.0%} by "
        f"{seldom['alarms']['0.01']:.0%}. So look at windows too.\n\n"
    )
    rows = [
        [name, *(f"{row['alarms']['0.01']:.1%}" for row in found)]
        for name, found in r["beside"].items()
    ]
    shares = [f"{row['share']:.0%}" for row in r["beside"]["classmark"]]
    return words + markdown(["alarms at alpha 0.01, hidden share of 1,000", *shares], rows)


def drift_evidently(read: Read) -> str:
    """Return Evidently's tests beside ours on the same windows."""
    found = read("drift-alarms")["evidently"]
    ways = {"default": "its own", "any column": "any column", "0.05": "0.05", "0.01": "0.01"}
    rows = [
        [name, ways[way], *(f"{row['alarms'][way]:.0%}" for row in measured)]
        for name, measured in found["alarms"].items()
        for way in ways
        if way in measured[0]["alarms"]
    ]
    shares = [f"{row['share']:.0%}" for row in found["alarms"]["classmark"]]
    head = ["alarms, hidden share of 1,000 papers", "threshold or alpha", *shares]
    words = f"\nEvidently {found['version']}, {found['trials']} windows of each kind.\n"
    return markdown(head, rows) + words


BLOCKS: dict[str, Callable[[Read], str]] = {
    "report_accuracy": accuracy,
    "report_images": images,
    "report_load": load,
    "report_breaking": breaking,
    "report_speed": speed,
    "report_scale": scale,
    "report_aims": aims,
    "report_profile": profile,
    "report_cost": cost,
    "findings": findings,
    "storm": storm,
    "drift_alarms": drift_alarms,
    "drift_beside": drift_beside,
    "drift_evidently": drift_evidently,
}
