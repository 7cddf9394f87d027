"""Makes a bucket of the object store unless it is there: python bucket.py NAME."""

from __future__ import annotations

import sys

from google.api_core.exceptions import Conflict, ServerError
from google.api_core.retry import Retry, if_exception_type
from google.cloud.storage import Client
from requests.exceptions import ConnectionError as NotReached

PATIENCE_S = 60.0


def main(name: str) -> None:
    """Make the bucket; wait until the store answers."""
    passing = if_exception_type(NotReached, ServerError)
    try:
        Client().create_bucket(name, retry=Retry(passing, timeout=PATIENCE_S))
    except Conflict:
        print(f"the bucket {name} is there")


if __name__ == "__main__":
    main(sys.argv[1])
