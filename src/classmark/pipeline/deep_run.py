"""Reads the run folder of a transformer back into a network that can be exported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classmark.errors import MissingExtra, UnreadableSource
from classmark.kernels.tokens import PairTokenizer
from classmark.records import RunRecord, TransformerPart
from classmark.records.run import damaged_run

if TYPE_CHECKING:
    from classmark.export.onnx import Network


def read_network(run_folder: Path, record: RunRecord) -> Network:
    """Return the fitted network of a run, in float32 and eval mode.

    Raises:
        RunNotFound: it is a run of another kind.
        RunCorrupt: a file of the run is missing or damaged.
        MissingExtra: the packages of ``[deep]`` are not installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel
    except ImportError as error:
        raise MissingExtra("exporting an encoder", "deep") from error
    from classmark.export.onnx import Network
    from classmark.training.transformer.model import EncoderClassifier

    part, n_labels = record.part_as(TransformerPart), len(record.labels)

    @contextmanager
    def reading(file: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError, SafetensorError, UnreadableSource) as error:
            raise damaged_run(run_folder, file, " ".join(str(error).split())[:300]) from error

    with reading("encoder/config.json"):
        config = AutoConfig.from_pretrained(run_folder / "encoder", local_files_only=True)
        make: Any = AutoModel.from_config
        encoder = make(config, attn_implementation="eager")
        model = EncoderClassifier(encoder, n_labels, part.pooling, dropout=0.0)
    with reading("weights/model.safetensors"):
        model.load_state_dict(load_file(run_folder / "weights" / "model.safetensors"))
    with reading("encoder/tokenizer.json"):
        tokenizer = PairTokenizer(tokenizer_json(run_folder), part.max_length)
    return Network(model.eval(), model.reads_types, n_labels, tokenizer)


def tokenizer_json(run_folder: Path) -> bytes:
    """Return the content of the run's ``tokenizer.json``."""
    return (run_folder / "encoder" / "tokenizer.json").read_bytes()
