"""Where Kaggle keeps a dataset, and the credentials that a user may have for it."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path

from classmark.errors import InvalidConfig

DEFAULT_DATASET = "sumitm004/arxiv-scientific-research-papers-dataset"
DEFAULT_API = "https://www.kaggle.com/api/v1"
CREDENTIALS_REMEDY = (
    "Set KAGGLE_USERNAME and KAGGLE_KEY, or save the API token of your Kaggle account as "
    "~/.kaggle/kaggle.json; if you have, accept the terms on the page of the dataset."
)
_NAME = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+")


def is_dataset_name(text: str) -> bool:
    """Tell OWNER/NAME from a path (which has a dot, or another number of slashes)."""
    return bool(_NAME.fullmatch(text))


def download_address(dataset: str, api: str = DEFAULT_API) -> str:
    """Return the address of the newest version of OWNER/NAME as one zip."""
    return f"{api.rstrip('/')}/datasets/download/{dataset}"


def authorization() -> str | None:
    """Return the HTTP header of the user's credentials, or None: public datasets need none.

    ``KAGGLE_USERNAME`` and ``KAGGLE_KEY`` come first, then ``kaggle.json`` in
    ``KAGGLE_CONFIG_DIR`` or ``~/.kaggle``.

    Raises:
        InvalidConfig: half of the credentials, or a file that does not hold them.
    """
    user, key = os.environ.get("KAGGLE_USERNAME", ""), os.environ.get("KAGGLE_KEY", "")
    if bool(user) != bool(key):
        there, missing = ("USERNAME", "KEY") if user else ("KEY", "USERNAME")
        raise InvalidConfig(f"KAGGLE_{there} is set, KAGGLE_{missing} is not. Set both or none.")
    if not user:
        user, key = _from_file()
    if not user:
        return None
    return "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()


def _from_file() -> tuple[str, str]:
    folder = os.environ.get("KAGGLE_CONFIG_DIR") or os.path.expanduser("~/.kaggle")  # noqa: PTH111
    path = Path(folder, "kaggle.json")  # without a home folder no such path exists
    try:
        token = json.loads(path.read_bytes())
        return str(token["username"]), str(token["key"])
    except (FileNotFoundError, NotADirectoryError):
        return "", ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidConfig(
            f'{path} cannot be used: it must hold {{"username": ..., "key": ...}}. Make a new API '
            "token on Kaggle, or move the file away: public datasets need none."
        ) from error
