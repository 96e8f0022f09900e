"""The HTTP API, as the demonstration calls it."""

from collections.abc import Iterator
from typing import Any, Self

import httpx

TIMEOUT_SECONDS = 90


class DemoError(RuntimeError):
    """The demonstration cannot go on; the message says why."""


class RefusedError(DemoError):
    """The API refused one request: its problem's ``code`` and ``detail``."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Client:
    """The API for one key, as a context. What fails is a DemoError, and a RefusedError where the API says why."""

    def __init__(self, base_url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=f"{base_url}/api/v1", headers=headers, timeout=TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **options: Any) -> dict[str, Any]:
        return self._call("GET", path, **options)

    def post(self, path: str, **options: Any) -> dict[str, Any]:
        return self._call("POST", path, **options)

    def pages(self, path: str) -> Iterator[dict[str, Any]]:
        """Every row of a list."""
        url: str | None = f"{path}?page_size=200"
        while url:
            page = self.get(url)
            yield from page["results"]
            url = page["next"]

    def find(self, path: str, slug: str) -> dict[str, Any] | None:
        return next((row for row in self.pages(path) if row["slug"] == slug), None)

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **options)
            body: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise DemoError(f"{method} {path} was not answered: {error}.") from error
        if response.is_error:
            raise RefusedError(
                body.get("code", "unknown"), body.get("detail", f"{method} {path}: {response.status_code}")
            )
        return body
