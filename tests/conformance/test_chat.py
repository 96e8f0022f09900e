"""Answers, in one piece and streamed."""

from dataclasses import replace

import pytest
from django.test import override_settings

from apps.providers import tokens
from apps.providers.base import ChatChunk, ChatMessage, ChatRequest
from apps.providers.lines import Line
from tests.conformance.conftest import PASSAGE, QUESTION, Tried
from tests.fakes.process import FakeProvider

#: What a deployment may have set for other programs that use the providers' SDKs.
SDK_VARIABLES = {
    **{f"{sdk}_API_KEY": "sk-foreign" for sdk in ("OPENAI", "GROQ", "ANTHROPIC", "CO", "MISTRAL", "AZURE_OPENAI")},
    **{f"{sdk}_BASE_URL": "http://127.0.0.1:1" for sdk in ("OPENAI", "GROQ", "ANTHROPIC")},
    **{
        f"{sdk}_CUSTOM_HEADERS": "Authorization: Bearer sk-foreign\nX-Api-Key: sk-foreign\nX-Team: foreign"
        for sdk in ("OPENAI", "GROQ", "ANTHROPIC")
    },
    "ANTHROPIC_AUTH_TOKEN": "sk-foreign",
    "CO_API_URL": "http://127.0.0.1:1",
    "OPENAI_ADMIN_KEY": "sk-foreign",
    "OPENAI_ORG_ID": "org-foreign",
    "OPENAI_PROJECT_ID": "proj-foreign",
}


def joined(chunks: list[ChatChunk]) -> str:
    return "".join(chunk.delta for chunk in chunks)


def test_a_question_is_answered_and_cites_its_passage(chat: Tried) -> None:
    result = chat.complete()
    assert "[1]" in result.text
    assert result.finish_reason == "stop"
    assert result.model == chat.model
    assert result.provider_request_id


def test_the_usage_of_an_answer_is_the_providers_in_exclusive_buckets(chat: Tried) -> None:
    usage = chat.complete().usage
    assert usage is not None
    assert usage.source == "api"
    assert usage.fresh_input_tokens > 0
    assert usage.plain_output_tokens > 0
    assert usage.input_tokens == usage.fresh_input_tokens + usage.cached_input_tokens + usage.cache_write_tokens
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_what_we_count_beforehand_is_what_is_counted(chat: Tried) -> None:
    request = chat.question()
    usage = chat.complete(request).usage
    assert usage is not None
    counted = tokens.count_chat(request, provider=_counted_as(chat))
    # Where the tokenizer is not known, other vocabularies rarely count twice as many, or half.
    factor = 2 if counted.estimated else 1
    assert counted.tokens <= usage.input_tokens * factor
    assert usage.input_tokens <= counted.tokens * factor
    assert usage.input_tokens <= tokens.upper_bound_chat(request, provider=_counted_as(chat))


def test_a_streamed_answer_is_the_same_as_one_in_one_piece(chat: Tried) -> None:
    whole = chat.complete()
    chunks = list(chat.stream())
    assert joined(chunks) == whole.text
    assert chunks[-1].finish_reason == whole.finish_reason
    assert chunks[-1].usage == whole.usage
    assert chunks[-1].model == whole.model


def test_a_stream_has_one_closing_chunk_and_it_is_the_last(chat: Tried) -> None:
    *pieces, closing = chat.stream()
    assert all(piece.delta and piece.finish_reason is None and piece.usage is None for piece in pieces)
    assert closing.delta == ""
    assert closing.finish_reason
    assert closing.usage is not None


def test_an_answer_ends_at_its_limit_and_says_so(chat: Tried) -> None:
    result = chat.complete(chat.question(max_tokens=5))
    assert result.finish_reason == "length"
    assert result.usage is not None
    assert 0 < result.usage.output_tokens <= 5
    assert joined(list(chat.stream(chat.question(max_tokens=5)))) == result.text


def test_an_answer_may_be_limited_to_a_single_token(chat: Tried) -> None:
    result = chat.complete(chat.question(max_tokens=1))
    assert result.usage is None or result.usage.output_tokens <= 1


def test_the_last_question_of_a_conversation_is_answered(chat: Tried) -> None:
    asked = ChatMessage(role="user", content="What colour is the garden gate?")
    answered = ChatMessage(role="assistant", content="The gate is green.")
    history = (asked, answered) * 30
    messages = (*history, ChatMessage(role="user", content=QUESTION))
    request = ChatRequest(model=chat.model, messages=messages, max_tokens=100, passages=(PASSAGE,))
    text = chat.complete(request).text
    assert "serial number" in text
    assert "gate" not in text


def test_an_answer_without_passages_is_an_answer_too(chat: Tried) -> None:
    request = ChatRequest(model=chat.model, messages=(ChatMessage(role="user", content="Hello?"),), max_tokens=100)
    result = chat.complete(request)
    assert result.text
    assert result.usage is not None


def test_text_of_every_kind_comes_back_unharmed(chat: Tried) -> None:
    text = 'What is the serial number of Zorblax 17 — 漢字 🙂 \u2028 <|endoftext|> "quotes" \\ back?'
    result = chat.complete(chat.question(text))
    assert joined(list(chat.stream(chat.question(text)))) == result.text
    assert result.text


def test_an_abandoned_stream_leaves_the_adapter_usable(chat: Tried) -> None:
    stream = chat.stream()
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert chat.complete().text


def test_an_answer_is_whole_with_its_last_event_whatever_becomes_of_the_connection(
    remote: Tried, fake: FakeProvider
) -> None:
    expected = remote.complete()
    fake.fail("cut_after")
    *pieces, closing = remote.stream()
    assert joined(pieces) == expected.text
    assert closing.usage == expected.usage


def test_hanging_up_after_the_end_leaves_the_connection_to_others(remote: Tried, fake: FakeProvider) -> None:
    line = Line()
    stream = remote.stream(line=line)
    assert list(stream)[-1].finish_reason
    other = remote.stream()
    next(other)
    line.hang_up()
    assert list(other)[-1].finish_reason
    assert len({arrival["peer"] for arrival in fake.arrivals()}) == 1


# What goes out


def test_system_history_and_question_go_out_in_order(remote: Tried, fake: FakeProvider) -> None:
    messages = (
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content="Hello."),
        ChatMessage(role="assistant", content="Hello!"),
        ChatMessage(role="user", content=QUESTION),
    )
    remote.complete(ChatRequest(model=remote.model, messages=messages, max_tokens=50))
    body = fake.arrivals()[0]["body"]
    # Anthropic has the system's word beside the messages.
    system = [{"role": "system", "content": body["system"]}] if "system" in body else []
    assert system + body["messages"] == [{"role": each.role, "content": each.content} for each in messages]


def test_a_turn_without_a_text_is_left_out_and_not_counted(remote: Tried, fake: FakeProvider) -> None:
    first, last = ChatMessage(role="user", content="Hello?"), ChatMessage(role="user", content=QUESTION)
    request = ChatRequest(model=remote.model, messages=(first, last), max_tokens=50)
    thought = replace(request, messages=(first, ChatMessage(role="assistant", content=" "), last))
    remote.complete(thought)
    assert [message["content"] for message in fake.arrivals()[0]["body"]["messages"]] == ["Hello?", QUESTION]
    counted = [tokens.count_chat(each, provider=_counted_as(remote)) for each in (thought, request)]
    assert counted[0] == counted[1]


def test_our_request_id_and_our_key_go_out_once(remote: Tried, fake: FakeProvider) -> None:
    remote.complete()
    (arrival,) = fake.arrivals()
    assert arrival["headers"]["x-client-request-id"] == remote.request_id
    assert arrival["headers"]["idempotency-key"] == remote.request_id
    assert arrival["headers"]["authorization"] == "Bearer sk-conformance-4242-secret"


def test_the_sdks_own_variables_are_not_read(
    remote: Tried, fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SDK_VARIABLES.items():
        monkeypatch.setenv(name, value)
    # Another key than before: the adapter is made anew.
    with override_settings(NOOBLE_PROVIDERS={remote.subject.name: remote.subject.settings(fake.url, "sk-own")}):
        remote.complete()
    headers = fake.arrivals()[0]["headers"]
    assert headers["authorization"] == "Bearer sk-own"
    assert "foreign" not in repr(headers)


def test_a_streamed_request_goes_out_with_the_first_piece(remote: Tried, fake: FakeProvider) -> None:
    stream = remote.stream()
    assert fake.arrivals() == []
    next(stream)
    assert [arrival["request_id"] for arrival in fake.arrivals()] == [remote.request_id]


def test_limit_and_temperature_go_out(remote: Tried, fake: FakeProvider) -> None:
    remote.complete(remote.question(max_tokens=77, temperature=0.3))
    body = fake.arrivals()[0]["body"]
    assert body.get("max_tokens", body.get("max_completion_tokens")) == 77
    assert body.get("temperature") == (0.3 if remote.subject.takes_temperature else None)


def test_a_temperature_that_is_not_set_is_not_sent(remote: Tried, fake: FakeProvider) -> None:
    remote.complete(remote.question(temperature=None))
    assert "temperature" not in fake.arrivals()[0]["body"]


def _counted_as(tried: Tried) -> str:
    # The fake counts everybody's chat as OpenAI counts gpt-4o's.
    return "openai" if tried.subject.name == "askable" else tried.subject.name
