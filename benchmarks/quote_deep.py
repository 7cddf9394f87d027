"""Markdown of the deep tier: frozen encoder, speed, compression, cascade, and how it is fitted."""

from __future__ import annotations

from typing import Any

from report import markdown, points, where_and_when

SHOWN_POINTS = 12


def tries(report: dict[str, Any]) -> str:
    """Return every try with top-1 by period, beside the fast model."""
    rows, head = [], ["", "top-1"]
    for one in report["tries"]:
        periods = [f"{p['top_1']['value']:.3f}" for p in one["periods"].values()]
        beside = [points(d) for d in one.get("beside_fast", {}).values()]
        name = one["name"]
        if "weight" in one:
            name = f"– mixed with fast, deep weight {one['weight']:g}"
        metrics = one["metrics"]
        others = [f"{metrics[m]['value']:.3f}" for m in ("top_5", "macro_f1", "ece")]
        top = f"{metrics['top_1']['value']:.3f}"
        rows.append([name, top, *periods, *others, *(beside or ["", ""])])
    newest = list(report["tries"][-1]["beside_fast"])[-1]
    head += [*report["tries"][0]["periods"], "top-5", "macro-F1", "ECE"]
    head += ["points beside fast", f"of these, {newest}"]
    papers = report["papers"]
    return (
        f"{markdown(head, rows)}\n{papers['train']:,} papers embedded once "
        f"({report['embedding_cpu_s'] / 60:.0f} CPU-minutes), {papers['valid']:,} to choose on, "
        f"{papers['test']:,} to test; {where_and_when(report)}.\n"
    )


def kernels(report: dict[str, Any]) -> str:
    """Return size, accuracy, latency and speed of each way to run the encoder."""
    rows = [
        [
            name,
            f"{part['mb']:.1f}",
            f"{part['top_1']:.3f}",
            f"{part['one_paper_ms']['p50']:.0f}",
            f"{part['one_paper_ms']['p95']:.0f}",
            f"{part['papers_per_cpu_s']:.1f}",
        ]
        for name, part in report["kernels"].items()
    ]
    head = ["", "MB", "top-1", "one paper, ms: p50", "p95", "papers per CPU-second"]
    return (
        f"{markdown(head, rows)}\n{report['papers']} papers of {report['mean_chars']:,} "
        "characters; "
        f"latency on {report['threads']} threads, papers per CPU-second on one; "
        f"{where_and_when(report)}.\n"
    )


def serving(report: dict[str, Any]) -> str:
    """Return both servers, and what becomes of three times as many requests as can be answered."""
    served = report["serving"]
    rows = [
        [
            {"plain": "torch behind FastAPI", "classmark": "`classmark serve`"}[name],
            f"{part['papers_per_s']:.1f}",
            f"{part['latency_ms']['p50']:.0f}",
            f"{part['latency_ms']['p95']:.0f}",
            f"{part['resident_mb']:.0f}",
        ]
        for name, part in ((n, served[n]) for n in ("plain", "classmark"))
    ]
    over = served["overload"]
    head = ["8 clients, one paper a request", "papers/s", "p50, ms", "p95, ms", "resident MB"]
    refused, kernels = over["refused_ms"], report["kernels"]
    ours, plain = f"ONNX {report['bundle'].split()[-1]}", "torch fp32"
    return (
        f"{markdown(head, rows)}\n`classmark serve` answers {served['times_plain']:.2f} times as "
        f"many papers ({report['bundle']}; top-1 {kernels[ours]['top_1']:.3f}, of torch "
        f"{kernels[plain]['top_1']:.3f}). At {over['sent_per_s']:.0f} "
        "requests/s, three times what it can answer, each with a deadline of a second: "
        f"{over['goodput_of_peak']:.0%} of the peak rate is answered in time, refusals take "
        f"{refused.get('p50', 0):.1f} ms (p95 {refused.get('p95', 0):.1f}), "
        f"resident memory {over['resident_mb']:.0f} MB.\n"
    )


def cascade(report: dict[str, Any]) -> str:
    """Return some points of the curve on test, and the one that is served."""
    found = [p for p in report["points"] if p["split"] == "test"]
    step = max(1, len(found) // SHOWN_POINTS)
    shown = [*found[:-1:step], found[-1]]
    rows = [
        [
            f"{p['threshold']:.2f}",
            f"{p['deep_share']:.0%}",
            f"{p['accuracy']:.3f}",
            f"{p['cpu_ms']:.2f}",
            f"{p['cheaper']:.1f}",
            f"{100 * p['loss']:+.1f}",
        ]
        for p in shown
    ]
    at = report["chosen"]["test"]
    mix = "the deep model alone" if report["mix"] is None else f"a mix, deep weight {report['mix']}"
    head = ["threshold", "deep is asked", "top-1", "CPU-ms a paper", "times cheaper", "points lost"]
    return (
        f"{markdown(head, rows)}\nChosen on valid: threshold {at['threshold']:.2f} with {mix} "
        f"where it asks; on test it asks for {at['deep_share']:.0%} of the papers, is "
        f"{at['cheaper']:.1f} times cheaper than the deep model and loses "
        f"{100 * at['loss']:+.1f} points against always asking.\n"
    )


def loading(report: dict[str, Any]) -> str:
    """Return papers a second of each format by workers, with and without buckets."""
    names = {"arrays": "arrays of tokens", "jsonl": "JSON lines", "csv": "CSV"}
    rows: dict[tuple[str, bool], list[str]] = {}
    for cell in report["loading"]:
        kind = (cell["format"], cell["bucketed"])
        if kind not in rows:
            rows[kind] = [
                names.get(kind[0], kind[0].capitalize()),
                "yes" if kind[1] else "no",
                f"{cell['padding']:.0%}",
                f"{cell['mb']:.1f}",
                f"{cell['read_s']:.2f}",
                f"{cell['papers_per_cpu_s']:,.0f}",
            ]
        rows[kind].append(f"{cell['papers_per_s']:,.0f}")
    head = ["format", "buckets", "padding", "MB", "read, s", "papers per CPU-second"]
    head += [f"papers/s, {n} worker{'s' * (n != 1)}" for n in report["workers"]]
    invented = "invented " if report["generated"] else ""
    once = report["trainer"]
    return (
        f"{markdown(head, rows.values())}\nBatches of {report['batch_size']}, "
        f"{report['papers']:,} {invented}papers of {report['mean_tokens']:.0f} tokens in the mean. "
        f"`classmark train` takes {once['read_cpu_s']:.2f} CPU-seconds to read them and "
        f"{once['tokenise_cpu_s']:.2f} to make tokens of them, once. {where_and_when(report)}"
        f"{_shared(report)}.\n"
    )


def loading_fit(report: dict[str, Any]) -> str:
    """Return the speed of a fit by workers, and the share of its time that it waits."""
    rows = [
        [
            str(fit["workers"]),
            "yes" if fit["bucketed"] else "no",
            f"{fit['papers_per_s']:.1f}",
            f"{fit['papers_per_cpu_s']:.1f}",
            f"{fit['waited_share']:.2%}",
        ]
        for fit in report["fit"]
    ]
    head = ["workers", "buckets", "papers/s", "papers per CPU-second of the fit", "waiting"]
    return f"{markdown(head, rows)}\n{where_and_when(report)}{_shared(report)}.\n"


def distributed(report: dict[str, Any]) -> str:
    """Return what a step took by one process and by two."""
    step = report["step"]
    rows = [
        [name, f"{m['wall_s']:.2f}", f"{m['cpu_s']:.2f}", f"{step['papers'] / m['cpu_s']:.1f}"]
        for name, m in report["measured"].items()
    ]
    head = ["a step by", "seconds", "CPU-seconds", "papers per CPU-second"]
    return (
        f"{markdown(head, rows)}\n{step['papers']} papers of {step['tokens']} tokens, median of "
        f"{step['rounds']} rounds in turns. The exchange of "
        f"{report['gradient_bytes'] / 1e6:.0f} MB of gradients alone takes "
        f"{report['exchange_s']:.2f} s. {where_and_when(report)}{_shared(report)}.\n"
    )


def distributed_model(report: dict[str, Any]) -> str:
    """Return the derived share of calculation of each number of processes."""
    rows, papers = [], report["step"]["papers"]
    for of in report["derived"]:
        for key, words in (("papers_a_step_fixed", "in all"), ("papers_a_process_fixed", "each")):
            shown = [f"{step['efficiency']:.0%}" for step in of[key][1:]]
            most = f"{of[key][-1]['papers_per_s']:,.0f}"
            rows.append([of["name"], f"{papers} {words}", *shown, most])
    counts = [step["processes"] for step in report["derived"][0]["papers_a_step_fixed"]]
    head = ["derived, not measured", "papers a step", *(f"{n} processes" for n in counts[1:])]
    sources = dict.fromkeys(f"{of['name']}: {of['source']}" for of in report["derived"])
    return (
        f"{markdown([*head, f'papers/s, {counts[-1]} processes'], rows)}\n"
        f"{report['paper_gflop']:.1f} GFLOP a paper, {report['gradient_bytes'] / 1e6:.0f} MB of "
        f"gradients, ring exchange. {'. '.join(sources)}.\n"
    )


def _shared(report: dict[str, Any]) -> str:
    facts = report["provenance"]
    load = facts["load_average"]["before"]
    if load <= facts["cores"]:
        return ""
    return f"; the machine was shared (load {load:.0f}), so CPU-seconds tell more than seconds"


def compression(report: dict[str, Any]) -> str:
    """Return every way to compress, with what it loses beside fp32 in ONNX."""
    rows = [
        [
            f"**{way['name']}**" if way["best"] else way["name"],
            f"`{way['option']}`" if way["option"] else "",
            f"{way['mb']:.1f}",
            f"{way['top_1']:.3f}",
            points(way["beside"]),
            f"{way['papers_per_cpu_s']:,.0f}",
            f"{way['papers_per_s']:,.0f}",
            f"{way['one_paper_cpu_ms']['p50']:.1f}",
            f"{way['one_paper_ms']['p50']:.1f}",
        ]
        for way in report["ways"]
    ]
    head = ["", "`export`", "MB", "top-1", "points beside fp32", "papers per CPU-second"]
    head += ["papers/s", "one paper, CPU-ms", "one paper, ms"]
    papers = report["papers"]
    return (
        f"{markdown(head, rows)}\n{papers['test']:,} test papers of at most "
        f"{report['max_length']} tokens, one thread; the teacher's head was fitted on "
        f"{papers['train']:,} papers, what is tuned on {papers['tuned']:,}. Bold: no other of its "
        f"tier is at least as accurate, as small and as fast. {where_and_when(report)}"
        f"{_shared(report)}.\n"
    )
