"""Blocks about a cluster of Ray: what it costs on one machine, and what many nodes would do."""

from __future__ import annotations

from report import Measured, markdown, where_and_when

_ENGINES = {"local": "`--workers 2`", "ray": "`--engine ray --workers 2`"}


def overhead(r: Measured) -> str:
    """Return what both engines took for the same papers on one machine."""
    rows = []
    for name, words in _ENGINES.items():
        engine = r["engines"][name]
        small, large = engine["runs"]
        rows.append(
            (
                words,
                f"{small['seconds']:,.0f} / {large['seconds']:,.0f}",
                f"{small['cpu_s']:,.0f} / {large['cpu_s']:,.0f}",
                f"{engine['cpu_s_fixed'] + engine.get('start', {}).get('cpu_s', 0):,.0f}",
                f"{engine['cpu_s_per_million']:,.0f}",
            )
        )
    few, many = (f"{n:,}" for n in r["papers"])
    head = [
        "engine",
        "seconds",
        "CPU-seconds",
        "fixed, with the start of a cluster",
        "CPU-seconds a million more",
    ]
    same = "the same" if r["same_bytes"] else "NOT the same"
    return (
        f"{markdown(head, rows)}\n{few} / {many} generated papers into Parquet; the bytes are "
        f"{same}. {where_and_when(r)}.\n"
    )


def model(r: Measured) -> str:
    """Return what follows for clusters of any size."""
    derived, assumed = r["derived"], r["derived"]["assumed"]
    rows = [
        (
            f"{run['papers'] / 1e6:g} million",
            run["tier"],
            run["nodes"],
            f"{run['hours']:,.2f}" if run["hours"] < 10 else f"{run['hours']:,.0f}",
            f"${run['dollars']:,.2f}" if run["dollars"] < 10 else f"${run['dollars']:,.0f}",
            f"{run['bottleneck']}, {run['workers_busy']:.0%}",
        )
        for run in derived["runs"]
    ]
    head = ["papers", "tier", "nodes", "hours", "cost", "bottleneck, and how busy workers are"]
    ray = r["engines"]["ray"]
    return (
        f"{markdown(head, rows)}\nA run takes as long as its slowest part, and the fixed seconds "
        f"of the machine above ({ray['seconds_fixed']:.0f}, and {ray['start']['seconds']:.0f} "
        "for the start). The parts are the workers; the readers, which unpack and divide gzip "
        f"files, one for {assumed['workers_a_reader']} workers; the driver, which takes the parts, "
        "by its CPU time or by its network. CPU time is that of the table above; for the deep "
        f"tier, that of `deep.json` (ONNX int8). Assumed: {assumed['cores_a_node']} cores a node, "
        f"${assumed['dollars_a_core_hour']} a core-hour, {assumed['driver_gbit_s']:g} Gbit/s, "
        "papers as long as the generated ones, and as many files as processes read them. 250 "
        "million is about all of OpenAlex.\n"
    )
