"""What the model is sent: the agent's prompt, as much of the conversation as fits, the passages, the question."""

from collections.abc import Iterable, Sequence

from apps.agents.errors import ContextTooLongError
from apps.agents.models import Message
from apps.agents.types import Author
from apps.core.context import LLMConfig
from apps.providers import catalog, tokens
from apps.providers.base import ChatMessage, ChatRequest, Passage

#: The window of a model whose window is not known.
DEFAULT_WINDOW = 8192
#: However large the window, older messages than this are not sent: they cost more than they help.
MAX_HISTORY_MESSAGES = 20


def build(
    config: LLMConfig, *, prompt: str, question: str, passages: Sequence[Passage], history: Iterable[Message]
) -> ChatRequest:
    """The request, within the model's window.

    ``history`` is newest first. When it is too much, the oldest messages go first, then the weakest passages; raises
    ContextTooLongError when the question alone does not fit.
    """
    earlier = [_message(message) for message in list(history)[:MAX_HISTORY_MESSAGES]]
    kept = list(passages)
    while True:
        request = _request(config, prompt, question, kept, earlier)
        if tokens.count_chat(request, provider=config.provider).tokens <= _room(config):
            return request
        if earlier:
            earlier.pop()
        elif kept:
            kept.pop()
        else:
            raise ContextTooLongError(f"Shorten it: {config.model} reads {_room(config):,} tokens beside its answer.")


def require_room(configs: Iterable[LLMConfig], *, prompt: str, question: str) -> None:
    """Refuse a question that none of the models can hold; raises the ContextTooLongError of the first."""
    refusals = []
    for config in configs:
        try:
            build(config, prompt=prompt, question=question, passages=(), history=())
        except ContextTooLongError as error:
            refusals.append(error)
        else:
            return
    raise refusals[0]


def _request(
    config: LLMConfig, prompt: str, question: str, passages: Sequence[Passage], earlier: Sequence[ChatMessage]
) -> ChatRequest:
    return ChatRequest(
        model=config.model,
        messages=(
            ChatMessage(role="system", content=prompt),
            *reversed(earlier),
            ChatMessage(role="user", content=question),
        ),
        passages=tuple(passages),
        max_tokens=_longest_answer(config),
        temperature=config.temperature,
    )


def _longest_answer(config: LLMConfig) -> int:
    """What is asked for at most: a provider refuses a request for more than its model can write, or has room for."""
    longest = catalog.model(config.provider, config.model).longest_answer
    return min(config.max_tokens, longest or config.max_tokens)


def _room(config: LLMConfig) -> int:
    window = catalog.model(config.provider, config.model).context_window or DEFAULT_WINDOW
    return window - min(_longest_answer(config), window // 2)


def _message(message: Message) -> ChatMessage:
    return ChatMessage(role="user" if message.author == Author.USER else "assistant", content=message.content)
