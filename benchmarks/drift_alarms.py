"""Measures drift alarms on real papers: false alarms, power, sizes, names, and the stream's delay.

python benchmarks/drift_alarms.py --dataset DATASET --work WORK
    --output benchmarks/reports/drift-alarms.json --plot docs/images/drift-alarms.svg

A fast model is fitted without the papers of some categories. Its own unseen papers are divided at
random into a reference of 5,000 and a window, again and again: every alarm is a false one. Then a
share of the window comes from a hidden category, which neither the fit nor the reference has seen,
or from one that both know. Beside it, on the same windows, the kernel two-sample test with
permutations (Gretton et al. 2012), as alibi-detect has it. The fit is kept in --work.

Evidently's tests need an environment of their own (make test-evidently makes it), and are added to
an existing report, which keeps its other parts:

.venv-evidently/bin/python benchmarks/drift_alarms.py --dataset DATASET --work WORK
    --only evidently --trials 100 --output benchmarks/reports/drift-alarms.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from classmark.monitor.sizes import size_of
from classmark.monitor.stream import Stream
from classmark.monitor.texts import papers_with, rising_words
from classmark.monitor.window import compare
from classmark.records.drift import WindowTest
from drift_pool import (
    HIDDEN,
    N_POOL,
    N_TRAIN,
    N_VALID,
    SEED,
    Pool,
    draw_papers,
    fit,
    make_pool,
    mixed_rows,
    mixed_window,
)
from drift_rivals import OURS, Papers, Rivals, Test
from peer_papers import FLAGS, find_dataset
from report import run_benchmark, start_plot, write_plot

KNOWN = ("cs.CL", "math.NT", "quant-ph", "hep-th", "astro-ph.CO", "physics.soc-ph")
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
WINDOWS = (100, 1_000, 10_000)
ALPHAS = (0.05, 0.01)
SIZE_WINDOWS = (200, 1_000, 5_000)
MOST_NAMED = 3
FIRST_WORDS, TYPICAL_WORDS = 3, 30
SHORT, MORE_OF_SHORT = 1_000, 4
"""Windows up to this length are drawn so many times as often: their rates are near the limits."""
STREAM_PAPERS, STREAM_START = 10_000, 2_000
STREAM_SHARES = (0.05, 0.1, 0.2)


def false_alarms(pool: Pool, n: int, trials: int) -> dict[str, Any]:
    """Return the shares of null windows of n papers that alarm, with their time."""
    rng = np.random.default_rng([SEED, n])
    trials *= MORE_OF_SHORT if n <= SHORT else 1
    p_values, began = [], time.process_time()
    for trial in range(trials):
        reference, window = pool.split(n, rng)
        test = compare(pool.table.select(window), pool.table.select(reference), seed=trial)
        p_values.append([test.p_value, *test.statistics.values()])
    found = np.array(p_values)
    names = ("whole", *test.statistics)
    return {
        "papers": n,
        "trials": trials,
        "alarms": {
            str(alpha): {
                name: round(float(np.mean(found[:, j] <= alpha)), 4) for j, name in enumerate(names)
            }
            for alpha in ALPHAS
        },
        "cpu_s_each": round((time.process_time() - began) / trials, 3),
    }


def power(pool: Pool, codes: tuple[str, ...], share: float, trials: int) -> dict[str, Any]:
    """Return how often a share of a category in 1,000 papers alarms, and is named right."""
    alarms: list[list[bool]] = []
    named: list[tuple[bool, bool]] = []
    sizes: list[float] = []
    rng = np.random.default_rng([SEED, int(1000 * share)])
    codes = pool.present(codes)
    typical = {code: typical_words(pool, code) for code in codes}
    for trial in range(trials):
        code = codes[trial % len(codes)]
        rows, others = mixed_rows(pool, code, share, pool.n_window, rng)
        window, reference = pool.table.select(rows), pool.table.select(others)
        test = compare(window, reference, seed=trial)
        alarms.append([test.p_value <= alpha for alpha in ALPHAS])
        sizes.append(size_of(window, reference).share)
        if test.p_value <= ALPHAS[1]:
            words = rising_words(pool.texts[rows].tolist(), pool.texts[others].tolist())
            first = {one.word for one in words[:FIRST_WORDS]}
            is_typical = bool(first) and first <= typical[code]
            named.append((is_named_right(pool, code, test), is_typical))
    found = np.array(named, dtype=np.bool_).reshape(-1, 2)
    rates = {
        "named_category": found[:, 0],
        "named_words": found[:, 1],
        "named_right": found[:, 0] | found[:, 1],
    }
    return {
        "share": share,
        "trials": trials,
        "alarms": {str(a): round(float(np.mean([x[j] for x in alarms])), 4)
                   for j, a in enumerate(ALPHAS)},
        **{k: round(float(v.mean()), 4) if len(v) else None for k, v in rates.items()},
        "named": len(named),
        "size": round(float(np.mean(sizes)), 4),
    }  # fmt: skip


def typical_words(pool: Pool, code: str) -> set[str]:
    """Return the 30 words whose share of papers is most above its share of all other papers."""
    inside, outside = pool.rows_of(code), pool.usual[pool.codes[pool.usual] != code]
    here, there = (papers_with(pool.texts[rows].tolist()) for rows in (inside, outside))
    more = {word: n / len(inside) - there[word] / len(outside) for word, n in here.items()}
    return set(sorted(more, key=lambda word: -more[word])[:TYPICAL_WORDS])


def is_named_right(pool: Pool, code: str, test: WindowTest) -> bool:
    """Return whether the first categories that rise are those that the papers are ranked in.

    Of a known category that is itself; of a hidden one, any of the three that its papers are put
    into most often.
    """
    rising = [s.name.removeprefix("predicted ") for s in test.shifts
              if s.name.startswith("predicted ") and s.standardised > 0]  # fmt: skip
    if code in pool.labels:
        return code in rising[:MOST_NAMED]
    ranked = pool.table.top_labels[pool.rows_of(code), 0]
    usual = np.argsort(-np.bincount(ranked, minlength=len(pool.labels)))[:MOST_NAMED]
    return bool({pool.labels[i] for i in usual} & set(rising[:1]))


def sizes(pool: Pool, share: float, trials: int) -> list[dict[str, Any]]:
    """Return the sizes of one shift in windows of several lengths."""
    found, codes = [], pool.present(HIDDEN)
    for n in (n for n in SIZE_WINDOWS if n <= len(pool.usual) // 2):
        rng = np.random.default_rng([SEED, n, 1])
        measured = []
        for trial in range(trials):
            code = codes[trial % len(codes)]
            if round(share * n) <= len(pool.rows_of(code)):
                measured.append(size_of(*mixed_window(pool, code, share, n, rng)))
        shares = np.array([size.share for size in measured])
        widths = np.array([size.high - size.low for size in measured])
        found.append(
            {
                "papers": n,
                "trials": len(shares),
                "mean": round(float(shares.mean()), 4),
                "sd": round(float(shares.std()), 4),
                "width": round(float(widths.mean()), 4),
            }
        )
    return found


def streams(pool: Pool, share: float, trials: int, n: int) -> dict[str, Any]:
    """Return how often streams reach the level, and after how many papers of the shift."""
    rng = np.random.default_rng([SEED, int(1000 * share), 2])
    alarms = dict.fromkeys(ALPHAS, 0)
    delays: dict[float, list[int]] = {alpha: [] for alpha in ALPHAS}
    early = dict.fromkeys(ALPHAS, 0)
    codes, start = pool.present(HIDDEN), min(STREAM_START, n // 5)
    for trial in range(trials):
        code = codes[trial % len(codes)]
        reference, rest = pool.split(n, rng)
        stream = Stream.begin(pool.table.select(reference))
        rows = rest
        if share:
            foreign = rng.choice(pool.rows_of(code), n)
            comes = (np.arange(n) >= start) & (rng.random(n) < share)
            rows = np.where(comes, foreign, rest)
        path = stream.watch(pool.table.select(rows), rng.random(n))
        for alpha in ALPHAS:
            above = np.flatnonzero(path >= -np.log(alpha))
            if len(above):
                alarms[alpha] += 1
                early[alpha] += bool(share) and above[0] < start
                if share and above[0] >= start:
                    delays[alpha].append(int(above[0]) - start)
    return {
        "share": share,
        "trials": trials,
        "papers": n,
        "alarms": {str(a): round(alarms[a] / trials, 4) for a in ALPHAS},
        "before_the_shift": {str(a): round(early[a] / trials, 4) for a in ALPHAS},
        "median_delay": {str(a): float(np.median(d)) if d else None for a, d in delays.items()},
    }


def measure_streams(pool: Pool, trials: int) -> list[dict[str, Any]]:
    """Return what streams do without a change, and with some."""
    n = min(STREAM_PAPERS, len(pool.usual) // 2)
    return [streams(pool, share, max(8, trials // 5), n) for share in (0.0, *STREAM_SHARES)]


def others(pool: Pool, tests: dict[str, Test], shares: tuple[float, ...], trials: int) -> Rivals:
    """Return how often tests alarm on the same windows, from none to some of a hidden category."""
    found: Rivals = {name: [] for name in tests}
    codes = pool.present(HIDDEN)
    for share in shares:
        rng = np.random.default_rng([SEED, int(1000 * share), 3])
        alarms: dict[str, list[dict[str, bool]]] = {name: [] for name in tests}
        for t in range(trials):
            rows = mixed_rows(pool, codes[t % len(codes)], share, pool.n_window, rng)
            window, reference = (Papers(pool.table.select(r), pool.texts[r]) for r in rows)
            for name, test in tests.items():
                alarms[name].append(test(window, reference, t))
        for name, seen in alarms.items():
            rates = {k: round(float(np.mean([one[k] for one in seen])), 4) for k in seen[0]}
            found[name].append({"share": share, "alarms": rates})
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return everything."""
    dataset = find_dataset(options.dataset, options.data, options.work)
    unit = options.papers / N_TRAIN
    sizes_of = {"train": N_TRAIN, "valid": N_VALID, "test": N_POOL}
    splits = draw_papers(dataset, {name: int(n * unit) for name, n in sizes_of.items()})
    bundle = fit(splits, options.work, options.labels)
    pool = make_pool(pl.concat([splits["test"], splits["hidden"]]), bundle)
    trials = options.trials
    if options.only:
        found: dict[str, Any] = json.loads(options.output.read_text())
        return {**found, options.only: PARTS[options.only](pool, trials)}
    return {
        "trials": trials,
        "papers": {"fit": len(splits["train"]), "unseen": len(pool.usual)},
        "hidden": {c: len(pool.rows_of(c)) for c in HIDDEN if len(pool.rows_of(c))},
        "false_alarms": measure_nulls(pool, trials),
        "power": measure_power(pool, trials),
        "power_known": measure_known(pool, trials),
        "sizes": {str(s): sizes(pool, s, max(8, trials // 10)) for s in (0.05, 0.1)},
        "streams": measure_streams(pool, trials),
        "beside": others(pool, OURS, (0.0, 0.02, 0.05, 0.1), max(8, trials // 5)),
    }


def measure_nulls(pool: Pool, trials: int) -> list[dict[str, Any]]:
    """Return the false alarms by the length of the window."""
    lengths = [n for n in WINDOWS if n + 100 <= len(pool.usual) // 2]
    return [false_alarms(pool, n, trials) for n in lengths]


def measure_power(pool: Pool, trials: int) -> list[dict[str, Any]]:
    """Return power and names by the share of a hidden category."""
    return [power(pool, HIDDEN, share, max(8, trials // 5)) for share in SHARES]


def measure_known(pool: Pool, trials: int) -> list[dict[str, Any]]:
    """Return the same for a category that the model knows."""
    return [power(pool, KNOWN, share, max(6, trials // 5)) for share in (0.05, 0.1)]


def measure_evidently(pool: Pool, trials: int) -> dict[str, Any]:
    """Return the alarms of Evidently's tests; its package is in no environment of ours."""
    from classmark.monitor.evidently import quiet_evidently

    with quiet_evidently():
        from drift_evidently import EVIDENTLY, VERSION

        tests = {"classmark": OURS["classmark"], **EVIDENTLY}
        rows = others(pool, tests, (0.0, 0.1), trials)
    return {"version": VERSION, "trials": trials, "alarms": rows}


PARTS: dict[str, Callable[[Pool, int], Any]] = {
    "false_alarms": measure_nulls,
    "power": measure_power,
    "power_known": measure_known,
    "streams": measure_streams,
    "evidently": measure_evidently,
}


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw power against the share, and the false alarms beside what is stated."""
    plt = start_plot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    rows = report["power"]
    shares = [100 * row["share"] for row in rows]
    for alpha in ALPHAS:
        values = [100 * row["alarms"][str(alpha)] for row in rows]
        left.plot(shares, values, marker="o", label=f"alpha {alpha}")
    left.set(xlabel="papers of a hidden category, % of 1,000", ylabel="windows that alarm, %")
    left.legend()
    for alpha in ALPHAS:
        rows = report["false_alarms"]
        values = [100 * row["alarms"][str(alpha)]["whole"] for row in rows]
        right.plot([row["papers"] for row in rows], values, marker="o", label=f"alpha {alpha}")
        right.axhline(100 * alpha, linestyle=":", linewidth=1)
    right.set(xlabel="papers of a window", ylabel="false alarms, %", xscale="log", ylim=(0, 8))
    right.legend()
    figure.tight_layout()
    write_plot(figure, path)


if __name__ == "__main__":
    run_benchmark(
        __doc__,
        measure,
        {
            **FLAGS,
            "--trials": {"type": int, "default": 1_000, "help": "null windows of each length"},
            "--papers": {"type": int, "default": N_TRAIN, "help": "papers of the fit"},
            "--only": {
                "choices": PARTS,
                "help": "measure only this part; the rest of --output stays",
            },
            "--labels": {"default": "arxiv", "help": "label space of the dataset"},
        },
        tiny={"trials": 10, "papers": 1_500},
        plot=plot,
    )
