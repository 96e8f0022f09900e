"""Azure OpenAI: OpenAI's wire format at the address of a resource, with deployments for models.

It is called by its v1 interface, which needs no ``api-version``: OpenAI's own client, the key as a bearer token, the
deployment's name as the model. Which model that is, and so its limits and tokenizer, the deployment says (``models`` of
the provider's settings); a deployment that is named for its model needs no word.
"""

from apps.providers.adapters.openai import OpenAIProvider

PATH = "/openai/v1"


class AzureOpenAIProvider(OpenAIProvider):
    """Chat completions and embeddings. A stream may begin with an event about the prompt, which has no choice."""

    name = "azure_openai"
    title = "Azure OpenAI"
    #: "If the service performs processing, you're charged even if the status code isn't successful. For example, a 400
    #: error due to a content filter or input limit": "Plan and manage costs" in its documentation.
    #: One without a code, because it did not come whole, may be either.
    charged_refusals = frozenset({"content_filter", "context_length_exceeded", ""})

    def _address(self, base_url: str) -> str:
        """With the path of the v1 interface, whether it was given or not: the portal shows the resource's alone."""
        return base_url.rstrip("/").removesuffix(PATH) + PATH
