"""The two providers of the harness. They say which process calls, so that the harness knows whom it kills."""

import os

from apps.providers.adapters.openai import OpenAIProvider
from apps.providers.base import ProviderConfig
from tests.fakes import adapter

PROCESS_HEADER = "X-Process-Id"


class SilentProvider(OpenAIProvider):
    """It cannot be asked what became of a request."""

    def __init__(self, config: ProviderConfig) -> None:
        # Made on a process's first call, so after the fork.
        super().__init__(config)
        self._client = self._client.with_options(default_headers={PROCESS_HEADER: str(os.getpid())})


class AskableProvider(adapter.AskableProvider):
    """It can."""

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self._client = self._client.with_options(default_headers={PROCESS_HEADER: str(os.getpid())})
