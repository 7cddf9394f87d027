"""Reads the run folder of a transformer back into a network that can be exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classmark.errors import InvalidDataset, MissingExtra, UnreadableSource
from classmark.runtime.tokens import PairTokenizer

if TYPE_CHECKING:
    from classmark.export.onnx import Network


def read_network(run_folder: Path, provenance: Mapping[str, Any]) -> Network:
    """Return the fitted network of a run, in float32 and eval mode.

    Raises:
        InvalidDataset: a file of the run is missing or damaged.
        MissingExtra: the packages of ``[deep]`` are not installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel
    except ImportError as error:
        raise MissingExtra("exporting an encoder", "deep") from error
    from classmark.export.onnx import Network
    from classmark.training.deep.model import EncoderClassifier

    n_labels = len(provenance["labels"])
    try:
        config = AutoConfig.from_pretrained(run_folder / "encoder", local_files_only=True)
        make: Any = AutoModel.from_config
        encoder = make(config, attn_implementation="eager")
        model = EncoderClassifier(encoder, n_labels, provenance["pooling"], dropout=0.0)
        model.load_state_dict(load_file(run_folder / "weights" / "model.safetensors"))
        tokenizer = PairTokenizer(tokenizer_json(run_folder), provenance["max_length"])
    except (
        OSError,
        KeyError,
        ValueError,
        RuntimeError,
        SafetensorError,
        UnreadableSource,
    ) as error:
        reason = " ".join(str(error).split())[:300]
        raise InvalidDataset(
            f"{run_folder} is not a finished run of a transformer: {reason}. Give the folder that "
            "`classmark train` printed last."
        ) from error
    return Network(model.eval(), model.reads_types, n_labels, tokenizer)


def tokenizer_json(run_folder: Path) -> bytes:
    """Return the content of the run's ``tokenizer.json``."""
    return (run_folder / "encoder" / "tokenizer.json").read_bytes()
