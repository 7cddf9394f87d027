"""Encoders are found where they are said to be, or refused with what was tried."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from tokenizers import Tokenizer

from classmark.errors import EncoderNotFound
from classmark.training.deep.encoder import find_encoder, load_encoder
from deep_models import HIDDEN, LAYERS

pytestmark = pytest.mark.slow  # reason: imports torch and Transformers


@pytest.fixture
def copy(tiny_encoder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_encoder, tmp_path / "copy"))


def test_a_folder_is_an_encoder(tiny_encoder: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    assert encoder.source == "folder"
    assert encoder.network.config.hidden_size == HIDDEN
    assert encoder.network.config.num_hidden_layers == LAYERS
    assert Tokenizer.from_buffer(encoder.tokenizer_json).token_to_id("[CLS]") == 2
    assert encoder.tokenizer_config["do_lower_case"] is True


def test_the_packaged_encoder_is_there() -> None:
    folder, source = find_encoder("packaged")
    assert source == "packaged"
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 384


def test_a_tokenizer_without_its_json_is_made_from_the_vocabulary(copy: Path) -> None:
    words = json.loads((copy / "tokenizer.json").read_text())["model"]["vocab"]
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.txt").write_text("\n".join(sorted(words, key=words.get)) + "\n")
    (copy / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    made = Tokenizer.from_buffer(load_encoder(str(copy)).tokenizer_json)
    assert made.encode("a study", "of rings").tokens[0] == "[CLS]"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_encoder_is_refused_by_name(copy: Path, name: str) -> None:
    path = copy / name
    path.write_bytes(path.read_bytes()[:20]) if name != "tokenizer.json" else path.unlink()
    with pytest.raises(EncoderNotFound, match=r"the encoder in .*copy cannot be read \(.*\)\."):
        load_encoder(str(copy))


def test_weights_that_are_a_pickle_are_not_read(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(EncoderNotFound, match=r"copy cannot be read .* weights as safetensors"):
        load_encoder(str(copy))


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderNotFound, match=r"the folder .* has no config\.json of an encoder"):
        find_encoder(str(tmp_path))


def test_a_path_that_is_not_there_is_not_asked_of_a_hub() -> None:
    with pytest.raises(EncoderNotFound, match=r"no encoder '\./no/such': tried the folder") as told:
        find_encoder("./no/such")
    assert "hub (" not in str(told.value)
