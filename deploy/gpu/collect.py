"""Turn what came back from the GPU into a run folder, which ``classmark export`` takes.

    python collect.py --prepared DIR --results DIR --dataset DIR [--runs-dir runs]

Needs classmark with ``[deep]``. The run folder is the last line on stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pieces import read_weights

from classmark.dataset import load_manifest, read_split
from classmark.errors import ClassmarkError, InvalidDataset
from classmark.kernels import RawScores
from classmark.kernels.tokens import PairTokenizer
from classmark.pipeline.run_folder import (
    describe_environment,
    path_from_run,
    reserve_run_folder,
    write_record,
    write_tables,
)
from classmark.pipeline.scoring import make_table
from classmark.records import DatasetManifest, EncoderFacts, RunStart, ScoreTable, TransformerPart
from classmark.records.run import Pooling
from classmark.storage import atomic_folder, write_json
from classmark.wire import ModelRef

HELD_OUT = ("valid", "test")


def read_results(prepared: Path, results: Path, manifest: DatasetManifest) -> dict[str, Any]:
    """Return the report and what was prepared, if both are of this dataset.

    Raises:
        InvalidDataset: they are not, or the job saw a share of the papers only.
    """
    found = {}
    for name, path in {"meta": prepared / "meta.json", "report": results / "report.json"}.items():
        try:
            found[name] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidDataset(f"{path} cannot be read: {error}. Run the step before.") from error
        if found[name]["dataset_digest"] != manifest.digest:
            raise InvalidDataset(
                f"{path} is of dataset {found[name]['dataset_digest'][:12]}, not of "
                f"{manifest.digest[:12]}. Give the dataset that was prepared."
            )
    if found["report"]["share"] < 1:
        raise InvalidDataset(
            f"{results} is a dry run on a share of {found['report']['share']:g} of the papers. Run "
            "the job on all of them."
        )
    return found


def read_tables(
    dataset: Path, manifest: DatasetManifest, results: Path, tokenizer: PairTokenizer
) -> dict[str, ScoreTable]:
    """Return the score tables of the held-out splits."""
    tables = {}
    for name in HELD_OUT:
        split = read_split(dataset, name, manifest)
        scores = np.load(results / f"scores-{name}.npy", allow_pickle=False).astype(np.float32)
        if scores.shape != (len(split), len(manifest.labels)):
            raise InvalidDataset(
                f"scores-{name}.npy is of shape {scores.shape}, the split has {len(split)} papers "
                f"and {len(manifest.labels)} labels. Give the results of this dataset."
            )
        pairs = list(zip(split.titles, split.abstracts, strict=True))
        known = np.array([paper.whole_share for paper in tokenizer.encode(pairs)], np.float32)
        ref = ModelRef("model", "0", "")
        raw = RawScores(scores, known)
        tables[f"model-{name}"] = make_table(raw, split, name, manifest, manifest.labels, ref)
    return tables


def write_network(
    folder: Path, prepared: Path, results: Path, pooling: Pooling, n_labels: int
) -> tuple[int, int]:
    """Write encoder and weights as a run of the deep tier has them; return width and layers."""
    from transformers import AutoConfig, AutoModel

    from classmark.training.transformer import write_weights
    from classmark.training.transformer.network import EncoderClassifier

    settings = AutoConfig.from_pretrained(prepared, local_files_only=True)
    encoder = AutoModel.from_config(settings)
    model = EncoderClassifier(encoder, n_labels, pooling, dropout=0.0)
    missing, unexpected = model.load_state_dict(read_weights(results), strict=False)
    wrong = [name for name in [*missing, *unexpected] if "pooler." not in name]
    if wrong:
        raise InvalidDataset(f"the weights in {results} do not fit the encoder: {wrong[0]}.")
    (folder / "encoder").mkdir()
    write_json(folder / "encoder" / "config.json", settings.to_dict())
    tokenizer = (prepared / "tokenizer.json").read_bytes()
    (folder / "encoder" / "tokenizer.json").write_bytes(tokenizer)
    write_weights(model, folder / "weights" / "model.safetensors")
    return settings.hidden_size, model.n_layers


def collect(prepared: Path, results: Path, dataset: Path, runs_dir: Path, command: str) -> Path:
    """Write the run folder, whole, and return it.

    Raises:
        InvalidDataset: the parts do not belong together, or one is damaged.
        StorageFailed: the folder cannot be written.
    """
    manifest = load_manifest(dataset)
    found = read_results(prepared, results, manifest)
    meta, report = found["meta"], found["report"]
    max_length = min(meta["max_length"], report["config"]["max_length"])
    tokenizer = PairTokenizer(prepared / "tokenizer.json", max_length)
    tables = read_tables(dataset, manifest, results, tokenizer)
    with reserve_run_folder(runs_dir, "transformer") as folder:
        start = RunStart(
            kind="transformer",
            command=command,
            seed=report["config"]["seed"],
            dataset=path_from_run(dataset, folder),
            dataset_digest=manifest.digest,
            labels=manifest.labels,
            label_space=manifest.label_space,
            generated=manifest.generated,
            **describe_environment(),
        )
        with atomic_folder(folder) as temporary:
            pooling = report["config"]["pooling"]
            width, layers = write_network(
                temporary, prepared, results, pooling, len(manifest.labels)
            )
            write_tables(temporary, tables)
            write_json(temporary / "config.yaml", report["config"])  # JSON is YAML
            rows = [f"fit,{row['epoch']},{row['loss']}" for row in report["fit"]["log"]]
            log = "\n".join(["stage,epoch,loss", *rows]) + "\n"
            (temporary / "log.csv").write_text(log, encoding="utf-8")
            name = meta["encoder"]
            part = TransformerPart(
                encoder=EncoderFacts(name=name, source=name, hidden_size=width, layers=layers),
                pooling=pooling,
                max_length=max_length,
                steps=report["fit"]["steps"],
                job=report,
            )
            record = start.finished(
                date=report["date"], fit_seconds=report["fit"]["seconds"], part=part
            )
            write_record(temporary, record)
    return folder


def main() -> None:
    """Collect what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prepared", type=Path, required=True, help="folder of prepare.py")
    parser.add_argument("--results", type=Path, required=True, help="folder of job.py")
    parser.add_argument("--dataset", type=Path, required=True, help="the dataset of prepare.py")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs go")
    given = parser.parse_args()
    try:
        folder = collect(
            given.prepared, given.results, given.dataset, given.runs_dir, "deploy/gpu/job.py"
        )
    except ClassmarkError as error:
        raise SystemExit(str(error)) from error
    sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    main()
