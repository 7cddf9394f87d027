"""Google's official clients for one environment, signed in, and their errors as ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar, cast

from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.retries import patient_client
from classmark.errors import (
    ClassmarkError,
    CloudFailed,
    CloudNotFound,
    CloudRefused,
    MissingExtra,
)
from classmark.storage import SIGN_IN

GRPC_VARIABLE, HTTP_VARIABLE = "CLASSMARK_GOOGLE_GRPC", "CLASSMARK_GOOGLE_HTTP"
"""Addresses (HOST:PORT) of local servers to call instead of Google's; for tests."""
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_TIMEOUT_S = 60
_Client = TypeVar("_Client")


class GoogleClients:
    """Makes clients, with the credentials that the application has by default, never a file."""

    def __init__(self) -> None:
        self._grpc = os.environ.get(GRPC_VARIABLE)
        self._http = os.environ.get(HTTP_VARIABLE)

    def client(self, kind: type[_Client], host: str | None = None) -> _Client:
        """Return a client that speaks gRPC.

        Args:
            kind: the class, e.g. ``run_v2.ServicesClient``.
            host: of the API, where it is not the same for every region.

        Raises:
            CloudFailed: nobody is signed in.
        """
        made: Any = kind
        if self._grpc:
            transport = made.get_transport_class("grpc")(channel=self._channel)
            return cast(_Client, patient_client(made(transport=transport)))
        with google_errors("signing in"):
            options = {"api_endpoint": host} if host else None
            client = made(credentials=self._credentials, client_options=options)
        return cast(_Client, patient_client(client))

    def rest_client(self, kind: type[_Client]) -> _Client:
        """Return a client that speaks HTTP: Compute Engine has no gRPC.

        Raises:
            CloudFailed: nobody is signed in.
        """
        made: Any = kind
        if self._http:
            from google.auth.credentials import AnonymousCredentials

            rest = made.get_transport_class("rest")
            credentials = AnonymousCredentials()
            transport = rest(host=self._http, url_scheme="http", credentials=credentials)
            return cast(_Client, patient_client(made(transport=transport)))
        with google_errors("signing in"):
            client = made(credentials=self._credentials)
        return cast(_Client, patient_client(client))

    def fetch(self, host: str, path: str, **query: str) -> dict[str, Any]:
        """Return the JSON of an address that Google's client libraries do not have.

        Args:
            host: of the API, e.g. ``monitoring.googleapis.com``.
            path: with a slash at its beginning.
            **query: what comes after the question mark.

        Raises:
            GoogleAPIError: it is refused; call this within ``google_errors``.
        """
        import requests
        from google.api_core.exceptions import from_http_response
        from google.auth.transport.requests import AuthorizedSession

        base = f"http://{self._http}" if self._http else f"https://{host}"
        session = requests.Session() if self._http else AuthorizedSession(self._credentials)
        with session:
            answer = session.get(base + path, params=query, timeout=_TIMEOUT_S)
        if not answer.ok:
            raise from_http_response(answer)
        return cast(dict[str, Any], answer.json())

    @cached_property
    def _channel(self) -> Any:  # noqa: ANN401 - a channel of gRPC
        import grpc

        return grpc.insecure_channel(self._grpc)

    @cached_property
    def _credentials(self) -> Any:  # noqa: ANN401 - credentials of google-auth
        import google.auth

        return google.auth.default(scopes=_SCOPES)[0]


class Google(GoogleClients):
    """Clients for one environment.

    Attributes:
        environment: names that requests have.
    """

    def __init__(self, environment: CloudEnvironment) -> None:
        super().__init__()
        self.environment = environment


def require_google() -> None:
    """Refuse to go on where Google's clients are not installed.

    Raises:
        MissingExtra: always then.
    """
    try:
        import google.api_core
        import google.auth  # noqa: F401
    except ImportError as error:
        raise MissingExtra("Google Cloud", "gcp") from error


@contextmanager
def google_errors(doing: str, *, role: str = "") -> Iterator[None]:
    """Turn the errors of Google's clients into ours: what failed, and what to do next.

    Args:
        doing: what is tried, as the subject of a sentence: "submitting a training job".
        role: the role that the caller needs for it, e.g. ``roles/aiplatform.user``.

    Raises:
        CloudFailed: nobody is signed in, or the service does not answer.
        CloudNotFound: something has not that name.
        CloudRefused: a permission is missing, a quota is used up, or an argument is refused.
    """
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except (GoogleAPIError, GoogleAuthError, OSError) as error:
        raise _ours(error, doing, role) from error


def _ours(error: Exception, doing: str, role: str) -> ClassmarkError:
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth

    said = str(getattr(error, "message", None) or error).rstrip(".")
    cases: list[tuple[Any, type[ClassmarkError], str]] = [
        (
            auth.DefaultCredentialsError,
            CloudFailed,
            f"needs credentials of Google Cloud. {SIGN_IN}",
        ),
        (auth.GoogleAuthError, CloudFailed, f"failed: signing in: {said}. {SIGN_IN}"),
        (
            (api.Forbidden, api.Unauthorized),
            CloudRefused,
            f"is not allowed: {said}. Give the account {role or 'the role that this needs'}",
        ),
        (
            api.NotFound,
            CloudNotFound,
            f"failed: {said}. Check the project, region and names in the environment's file",
        ),
        (
            api.TooManyRequests,
            CloudRefused,
            f"exceeds a quota: {said}. Ask for more under IAM & Admin > Quotas, or try another "
            "region, or later",
        ),
        (
            api.Conflict,
            CloudRefused,
            f"met another change: {said}. Look at `classmark cloud status`, then repeat it",
        ),
        (api.ClientError, CloudRefused, f"was refused: {said}"),
    ]
    for kinds, family, words in cases:
        if isinstance(error, kinds):
            return family(f"{doing} {words}.")
    return CloudFailed(f"{doing} failed: {said}. It is safe to repeat it.")
