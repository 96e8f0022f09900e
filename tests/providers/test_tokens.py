"""One way to count tokens."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from apps.providers import encodings, tokens
from apps.providers.base import ChatMessage, ChatRequest, Passage
from apps.providers.errors import UnknownProviderError
from tests.providers.conftest import Deploy

EXACT = [("openai", "gpt-4o"), ("openai", "text-embedding-3-large"), ("local", "extractive")]
ESTIMATED = [
    ("groq", "llama-3.3-70b-versatile"),
    ("cohere", "command-a-03-2025"),
    ("anthropic", "claude-opus-5-5"),
    ("openai", "acme-7b"),
]


def request(*contents: str, model: str = "gpt-4o", passages: tuple[Passage, ...] = ()) -> ChatRequest:
    messages = tuple(ChatMessage(role="user", content=content) for content in contents)
    return ChatRequest(model=model, messages=messages, max_tokens=10, passages=passages)


@pytest.mark.parametrize(
    ("model", "text", "expected"),
    [
        # Published with tiktoken: "tiktoken is great!" is 6 tokens in both vocabularies.
        ("gpt-4o", "tiktoken is great!", 6),
        ("text-embedding-3-large", "tiktoken is great!", 6),
        ("gpt-4o", "", 0),
        ("gpt-4o", "<|endoftext|>", 7),
    ],
)
def test_text_is_counted_with_the_models_own_tokenizer(model: str, text: str, expected: int) -> None:
    assert tokens.count(text, provider="openai", model=model) == tokens.TokenCount(expected, estimated=False)


@pytest.mark.parametrize(("provider", "model"), ESTIMATED)
def test_an_unknown_tokenizer_is_estimated_and_says_so(provider: str, model: str) -> None:
    assert tokens.count("tiktoken is great!", provider=provider, model=model) == tokens.TokenCount(6, estimated=True)


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(UnknownProviderError):
        tokens.count("text", provider="acme", model="any")


def test_a_request_is_counted_as_openais_cookbook_counts_it() -> None:
    # 3 for each message, 1 for its role, its content, 3 for the beginning of the answer.
    assert tokens.count_chat(request("hello world", "hi"), provider="openai").tokens == (4 + 2) + (4 + 1) + 3


def test_passages_are_counted_as_they_are_rendered() -> None:
    passage = Passage(number=1, document="manual.pdf", text="The pump weighs 44 kg.", page=3)
    bare = tokens.count_chat(request("How heavy?"), provider="openai").tokens
    full = tokens.count_chat(request("How heavy?", passages=(passage,)), provider="openai").tokens
    assert full > bare + tokens.count(passage.text, provider="openai", model="gpt-4o").tokens


def test_a_request_to_anthropic_is_counted_at_least_as_its_example_is() -> None:
    # "Token counting" in Anthropic's documentation counts these two texts as 14 tokens.
    said = (("system", "You are a scientist"), ("user", "Hello, Claude"))
    messages = tuple(ChatMessage(role=role, content=content) for role, content in said)  # type: ignore[arg-type]
    example = ChatRequest(model="claude-opus-5-5", messages=messages, max_tokens=10)
    assert 14 <= tokens.count_chat(example, provider="anthropic").tokens <= 20
    assert tokens.upper_bound_chat(example, provider="anthropic") >= 14


def test_a_request_to_cohere_is_counted_as_cohere_bills_it() -> None:
    # It bills for nothing that it adds; what is set aside for a request allows for more.
    asked = request("hello world", "hi", model="command-a-03-2025")
    assert tokens.count_chat(asked, provider="cohere").tokens == 2 + 1
    assert tokens.upper_bound_chat(asked, provider="cohere") > len("hello world") + len("hi") + 256


def test_the_local_model_counts_no_framing() -> None:
    counted = tokens.count("hello world", provider="local", model="extractive").tokens
    assert tokens.count_chat(request("hello world", model="extractive"), provider="local").tokens == counted


@pytest.mark.parametrize(("provider", "model"), EXACT + ESTIMATED)
@given(text=st.text(max_size=200))
def test_nothing_is_counted_above_the_upper_bound(provider: str, model: str, text: str) -> None:
    bound = tokens.upper_bound(text, provider=provider, model=model)
    assert tokens.count(text, provider=provider, model=model).tokens <= bound
    chat = request(text, model=model)
    assert tokens.count_chat(chat, provider=provider).tokens <= tokens.upper_bound_chat(chat, provider=provider)


def test_the_upper_bound_of_an_unknown_model_holds_for_text_that_normalising_makes_longer() -> None:
    # NFC makes three characters of four bytes out of one; a vocabulary of bytes then has twelve tokens for it.
    assert tokens.upper_bound("\U0001d160" * 10, provider="openai", model="acme-7b") >= 120


def test_the_upper_bound_of_a_known_model_is_exact() -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 20
    counted = tokens.count(text, provider="openai", model="gpt-4o").tokens
    assert tokens.upper_bound(text, provider="openai", model="gpt-4o") == counted


@pytest.mark.parametrize(("provider", "model"), EXACT + ESTIMATED)
@pytest.mark.parametrize(
    "text",
    [
        " " * 1_200_000,
        " " * 1_200_000 + "x",
        "\n" * 300_000,
        "a" * 300_000,
        "x\u0301" * 50_000,
        "\ud800 lone surrogate",
    ],
    ids=["spaces", "spaces-then-text", "line-feeds", "one-word", "combining", "surrogate"],
)
def test_hostile_text_is_counted_without_a_panic_and_stays_within_its_bound(
    provider: str, model: str, text: str
) -> None:
    counted = tokens.count(text, provider=provider, model=model).tokens
    assert 0 < counted <= tokens.upper_bound(text, provider=provider, model=model)


@pytest.mark.parametrize(("provider", "model"), EXACT)
@given(text=st.text(max_size=100), limit=st.integers(min_value=0, max_value=60))
def test_a_text_that_is_cut_is_a_beginning_an_end_or_both_within_its_limit(
    provider: str, model: str, text: str, limit: int
) -> None:
    assume(tokens.GAP not in text)
    fitting = tokens.count(text, provider=provider, model=model).tokens <= limit
    for leave_out in get_args(tokens.LeftOut):
        cut = tokens.fit(text, limit, provider=provider, model=model, leave_out=leave_out)
        assert tokens.count(cut, provider=provider, model=model).tokens <= limit
        assert not fitting or cut == text
        head, _, tail = cut.partition(tokens.GAP) if leave_out == "middle" else (cut, "", "")
        head, tail = ("", cut) if leave_out == "start" else (head, tail)
        assert text.startswith(head)
        assert text.endswith(tail)


@pytest.mark.parametrize(
    ("leave_out", "left"),
    [("end", "one two three four five"), ("start", " six seven eight nine ten"), ("middle", "one two … nine ten")],
)
def test_a_text_that_is_cut_is_as_long_as_it_may_be(leave_out: tokens.LeftOut, left: str) -> None:
    text = "one two three four five six seven eight nine ten"
    assert tokens.fit(text, 5, provider="openai", model="gpt-4o", leave_out=leave_out) == left


@pytest.mark.parametrize(
    ("provider", "model", "longest"),
    [
        ("openai", "text-embedding-3-small", 8192),
        # Counted with another vocabulary than its own, in which a text may be more tokens.
        ("cohere", "embed-english-v3.0", 256),
        ("openai", "acme-embedding", None),
        ("ollama", "embeddinggemma", 1024),
    ],
)
def test_a_text_is_no_longer_than_the_model_surely_takes(provider: str, model: str, longest: int | None) -> None:
    assert tokens.longest_text(provider=provider, model=model) == longest


def test_a_text_is_no_longer_than_the_server_surely_holds(deploy: Deploy) -> None:
    deploy({"ollama": {"context_window": 4096}})
    assert tokens.longest_text(provider="ollama", model="qwen3-embedding") == 2048
    assert tokens.longest_text(provider="ollama", model="acme-embedding") == 2048


def test_encodings_load_in_any_directory_without_leaving_a_trace() -> None:
    program = (
        "import os; os.chdir('/'); before = dict(os.environ)\n"
        "from apps.providers import encodings\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    print(set(pool.map(lambda _: encodings.tokenizer('cl100k_base').count('tiktoken is great!'), range(8))))\n"
        "assert dict(os.environ) == before\n"
    )
    # A proxy that is not there: loading must not need a network.
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": ""}  # noqa: PTH109
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{6}"


def test_threads_count_alike() -> None:
    with ThreadPoolExecutor(8) as pool:
        counts = set(pool.map(lambda _: encodings.tokenizer("wordllama").count("hello world"), range(64)))
    assert counts == {2}
