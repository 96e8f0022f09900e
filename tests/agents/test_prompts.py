"""What a model is sent when it cannot be sent everything: the question always, then passages, then the newest words."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from apps.agents import prompts
from apps.agents.errors import ContextTooLongError
from apps.agents.models import Message
from apps.core import clock
from apps.core.context import LLMConfig
from apps.ledger import statements
from apps.providers import tokens
from apps.providers.base import ChatRequest, Passage
from tests.faults.scene import Scene

PROMPT = "Answer from the passages."
MAX_TOKENS = 200
#: What a question and what goes before it may take beside an answer of that length.
ROOM = prompts.DEFAULT_WINDOW - MAX_TOKENS


def config(*, max_tokens: int = MAX_TOKENS, provider: str = "fake", model: str = "of-unknown-window") -> LLMConfig:
    return LLMConfig(
        provider=provider, model=model, temperature=0, max_tokens=max_tokens, timeout_seconds=20, retry_attempts=0
    )


def words(number: int) -> str:
    """A text of so many tokens."""
    return " a" * number


def said(number: int, *, each: int) -> list[Message]:
    """Messages of so many tokens, newest first, each with its number from the newest."""
    authors = ("assistant", "user")
    return [Message(author=authors[index % 2], content=f"{index}{words(each)}") for index in range(number)]


def found(number: int, *, each: int) -> list[Passage]:
    """Passages of so many tokens, best first."""
    return [Passage(number=index, document="a.md", text=words(each)) for index in range(1, number + 1)]


def build(
    *,
    question: str = "And now?",
    passages: list[Passage] | None = None,
    history: list[Message] | None = None,
    config: LLMConfig = config(),  # noqa: B008 - it is frozen
) -> ChatRequest:
    return prompts.build(config, prompt=PROMPT, question=question, passages=passages or [], history=history or [])


def sent(request: ChatRequest) -> list[int]:
    """The numbers of the messages that were said before, as they are sent: oldest first."""
    return [int(message.content.partition(" ")[0]) for message in request.messages[1:-1]]


def size(request: ChatRequest) -> int:
    return tokens.count_chat(request, provider="fake").tokens


def test_what_fits_is_sent_whole_in_the_order_in_which_it_was_said() -> None:
    request = build(passages=found(3, each=10), history=said(4, each=10))
    roles = [message.role for message in request.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert (request.messages[0].content, request.messages[-1].content) == (PROMPT, "And now?")
    assert sent(request) == [3, 2, 1, 0]
    assert [passage.number for passage in request.passages] == [1, 2, 3]
    assert (request.model, request.max_tokens) == ("of-unknown-window", MAX_TOKENS)


def test_the_oldest_messages_go_first_and_no_more_of_them_than_must() -> None:
    request = build(passages=found(3, each=100), history=said(20, each=1000))
    assert sent(request) == [6, 5, 4, 3, 2, 1, 0]
    assert len(request.passages) == 3
    assert size(request) <= ROOM < size(request) + 1000


def test_while_a_message_is_left_no_passage_goes() -> None:
    request = build(passages=found(3, each=2500), history=said(3, each=1000))
    assert sent(request) == []
    assert [passage.number for passage in request.passages] == [1, 2, 3]


def test_without_messages_the_weakest_passages_go_and_the_others_keep_their_numbers() -> None:
    request = build(passages=found(8, each=2500), history=said(3, each=10))
    assert sent(request) == []
    assert [passage.number for passage in request.passages] == [1, 2, 3]
    assert size(request) <= ROOM < size(request) + 2500


def test_a_question_that_fits_by_itself_is_asked_and_one_word_more_is_refused() -> None:
    longest = ROOM - size(build(question=words(1))) + 1
    request = build(question=words(longest), passages=found(1, each=10), history=said(1, each=10))
    assert size(request) == ROOM
    assert (sent(request), request.passages) == ([], ())
    with pytest.raises(ContextTooLongError) as refused:
        build(question=words(longest + 1), passages=found(1, each=10), history=said(1, each=10))
    assert refused.value.detail == f"Shorten it: of-unknown-window reads {ROOM:,} tokens beside its answer."


def test_older_messages_are_not_sent_however_short_they_are() -> None:
    most = prompts.MAX_HISTORY_MESSAGES
    assert sent(build(history=said(most + 5, each=1))) == list(reversed(range(most)))


@pytest.mark.parametrize(
    ("provider", "model", "wanted", "asked_for"),
    [
        ("openai", "gpt-4o", 4000, 4000),
        ("openai", "gpt-4o", 50_000, 16_384),
        ("groq", "llama-3.1-8b-instant", 128_000, 65_536),
        ("openai", "of-unknown-window", 50_000, 50_000),
    ],
)
def test_no_longer_answer_is_asked_for_than_the_model_can_write_or_than_half_its_window(
    provider: str, model: str, wanted: int, asked_for: int
) -> None:
    assert build(config=config(provider=provider, model=model, max_tokens=wanted)).max_tokens == asked_for


def test_the_longer_the_answer_may_be_the_less_is_sent_down_to_half_the_window() -> None:
    def room(max_tokens: int) -> int:
        with pytest.raises(ContextTooLongError) as refused:
            build(question=words(prompts.DEFAULT_WINDOW), config=config(max_tokens=max_tokens))
        return int(refused.value.detail.partition(" reads ")[2].partition(" ")[0].replace(",", ""))

    half = prompts.DEFAULT_WINDOW // 2
    rooms = [room(max_tokens) for max_tokens in (1, half, 10 * half)]
    assert rooms == [prompts.DEFAULT_WINDOW - 1, half, half]


def test_a_model_whose_window_is_known_is_sent_what_that_holds() -> None:
    history = said(20, each=1000)
    roomy = config(provider="openai", model="gpt-3.5-turbo")
    assert len(sent(build(history=history, config=roomy))) == 16
    assert len(sent(build(history=history, config=config(provider="openai", model="gpt-4o")))) == 20


# From the question to the provider


@pytest.fixture
def agent(scene: Scene) -> str:
    """One that searches nothing, so that a question is one call."""
    llm = {"provider": "fake", "model": "fake-chat", "max_tokens": MAX_TOKENS}
    return str(scene.post("/agents", {"slug": "talker", "name": "Talker", "llm": llm})["id"])


def contents(scene: Scene, marker: str) -> list[str]:
    """What the provider was asked last, of the questions with the marker."""
    bodies: list[dict[str, Any]] = [each["body"] for each in scene.fake.arrivals() if marker in str(each["body"])]
    return [message["content"] for message in bodies[-1]["messages"]]


def test_a_conversation_longer_than_the_window_is_answered_from_its_newest_messages(scene: Scene, agent: str) -> None:
    questions = [f"{uuid4().hex}{words(3000)}" for _ in range(3)] + [uuid4().hex]
    conversation: UUID | None = None
    for question in questions:
        body = {"agent_id": agent, "message": question} | ({"conversation_id": conversation} if conversation else {})
        run = scene.wait_for_run(UUID(scene.post("/chat", body)["run_id"]))
        assert (run.status, run.error_detail) == ("succeeded", "")
        conversation = run.conversation_id

    [_, *history, question] = contents(scene, questions[-1])
    assert question == questions[-1]
    # Each of the two newest questions with its answer; before them, of the oldest, its answer alone.
    assert history[1::2] == questions[1:3]
    assert all(len(answer) < 1000 for answer in history[::2])
    # By the provider's own count.
    prompt = scene.fake.tally()[-1]["prompt_tokens"]
    assert prompt <= ROOM < prompt + 3000


def test_a_question_that_cannot_fit_is_never_asked_and_costs_nothing(scene: Scene, agent: str) -> None:
    question = f"{uuid4().hex}{words(ROOM)}"
    run = scene.wait_for_run(scene.ask(agent, question))
    assert (run.status, run.error_code) == ("failed", "context_too_long")
    assert "7,992 tokens" in run.error_detail
    assert not [each for each in scene.fake.arrivals() if question in str(each["body"])]
    check_nothing_was_bought(scene)


def test_a_question_that_cannot_fit_is_not_searched_for(scene: Scene) -> None:
    question = f"{uuid4().hex}{words(ROOM)}"
    run = scene.wait_for_run(scene.ask(scene.agent(scene.collection()), question))
    assert (run.status, run.error_code) == ("failed", "context_too_long")
    assert not [each for each in scene.fake.arrivals() if question in str(each["body"])]
    check_nothing_was_bought(scene)


def check_nothing_was_bought(scene: Scene) -> None:
    assert (scene.attempts(), scene.entries()) == ([], [])
    books = statements.statement(scene.persona.ctx, clock.today("UTC").replace(day=1))
    assert (books.held_tokens, books.billable_tokens, books.differences()) == (0, 0, [])
