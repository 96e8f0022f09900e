"""The environment: what is wrong with it is said at once, readably, wherever a process starts."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.storage import Storage
from django.test import override_settings

from nooble import checks
from settings import env, services
from settings.variables import VARIABLES, Variable

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = {
    "DJANGO_SETTINGS_MODULE": "settings.prod",
    "SECRET_KEY": "0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "ALLOWED_HOSTS": "api.example.com",
    "DATABASE_URL": "postgresql://nooble_app:secret@db.example.com/nooble",
    "DATABASE_OWNER_URL": "postgresql://nooble_owner:secret@db.example.com/nooble",
    "REDIS_URL": "redis://redis.example.com:6379/0",
    "CREDENTIAL_KEYS": "2026a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
}
FILE_SYSTEM = "django.core.files.storage.FileSystemStorage"
COMMANDS = {
    "manage": ["manage.py", "check"],
    "worker": ["-m", "celery", "-A", "nooble", "worker"],
    "beat": ["-m", "celery", "-A", "nooble", "beat"],
    "uvicorn": ["-m", "uvicorn", "nooble.asgi:application"],
    "wsgi": ["-c", "import nooble.wsgi"],
}


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with nothing in its environment but these."""
    environment = {"PATH": os.environ["PATH"], **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No variable of ours is set."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings.dev")
    return monkeypatch


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_way_to_start_reports_all_that_is_wrong_and_no_traceback(command: list[str]) -> None:
    bad = {"WEB_PORT": "none", "REDIS_URL": "http://redis", "DATABASE_URL": "mysql://me:hidden@db/nooble"}
    result = run(*command, **PRODUCTION | bad | {"SECRET_KEY": "short"})
    assert result.returncode == 1
    for expected in ("WEB_PORT: Not a valid integer.", "REDIS_URL: Not a redis", "DATABASE_URL: Not a", "SECRET_KEY: "):
        assert expected in result.stderr
    assert "Example: WEB_PORT=8080" in result.stderr
    assert "Traceback" not in result.stderr
    assert "hidden" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "hidden"),
        ("SECRET_KEY", "a" * 60),
        # An empty one would accept what anybody signs with nothing.
        ("SECRET_KEY_FALLBACKS", "an-old-secret-key-that-is-hidden-0123456789-0123456789,,"),
        ("ALLOWED_HOSTS", "https://hidden.example.com"),
        ("ALLOWED_HOSTS", "api.example.com,,hidden.example.com"),
        ("DATABASE_URL", "postgresql://db:hidden/nooble"),
        ("DATABASE_URL", "postgresql://db.example.com"),
        ("DATABASE_URL", "postgresql://db:99999/nooble"),
        ("DATABASE_URL", "postgresql://db/nooble?sslmode=hidden"),
        ("DATABASE_URL", "postgresql://db/nooble?connect_timeout=hidden"),
        ("REDIS_URL", "redis://redis.example.com:hidden/0"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "unix://"),
        ("REDIS_URL", "redis://redis.example.com/hidden"),
        ("REDIS_URL", "redis://redis.example.com/0?hidden=5"),
        ("REDIS_URL", "redis://redis.example.com/0?socket_timeout=hidden"),
        ("BROKER_URL", "hidden"),
        ("BROKER_URL", "smtp://hidden"),
        ("BROKER_URL", "amqp://broker:hidden//"),
        ("BROKER_URL", "redis://broker/hidden"),
        # Celery knows it, but its library is not installed.
        ("BROKER_URL", "sqs://hidden"),
        ("MEDIA_ROOT", "/etc/passwd"),
        ("SPOOL_DIR", "/etc/passwd/below"),
        ("OPENAI_API_KEY", "sk-hidden and more"),
        ("GROQ_API_KEY", "gsk-hidden…"),
        ("GROQ_BASE_URL", "https://hidden.example.com/v1"),
        ("ANTHROPIC_API_KEY", "sk-ant-hidden and more"),
        ("ANTHROPIC_BASE_URL", "hidden"),
        ("COHERE_API_KEY", "co-hidden and more"),
        ("COHERE_BASE_URL", "hidden"),
        ("CREDENTIAL_KEYS", "hidden"),
        ("CREDENTIAL_KEYS", "2026a:hidden"),
        ("CREDENTIAL_KEYS", "2026a:AAECAwQFBgcICQoLDA0ODw=="),
        ("CREDENTIAL_KEYS", f"2026a:{'A' * 43}="),
        ("CREDENTIAL_KEYS", f"{PRODUCTION['CREDENTIAL_KEYS']},"),
        ("CREDENTIAL_KEYS", f"{PRODUCTION['CREDENTIAL_KEYS']},{PRODUCTION['CREDENTIAL_KEYS']}"),
        ("OLLAMA_BASE_URL", "hidden:11434"),
        ("OLLAMA_CONTEXT_LENGTH", "4k"),
        ("AZURE_OPENAI_ENDPOINT", "https://hidden.openai.azure.com/openai/deployments/gpt-4o"),
        ("AZURE_OPENAI_ENDPOINT", "https://hidden.openai.azure.com?api-version=2024-10-21"),
        ("AZURE_OPENAI_DEPLOYMENTS", '{"hidden": 4}'),
        ("UNKNOWN_GRACE_SECONDS", "9" * 19),
        ("SPOOL_AFTER_SECONDS", "inf"),
        ("CSRF_TRUSTED_ORIGINS", "https://admin.example.com,hidden"),
        ("WEB_HOST", ";;"),
        ("WEB_PORT", "0"),
    ],
)
def test_a_malformed_one_is_named_with_an_example_and_not_repeated(
    clean: pytest.MonkeyPatch, name: str, value: str
) -> None:
    clean.setenv(name, value)
    with pytest.raises(env.InvalidEnvironmentError) as caught:
        env.load()
    assert f"{name}: " in str(caught.value)
    assert f"Example: {name}=" in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://me:secret@one:5432,two:5433/nooble"),
        ("BROKER_URL", "amqp://one//;amqp://two//"),
        ("BROKER_URL", "redis+socket:///run/redis.sock"),
        ("WEB_HOST", "::1"),
        ("DATABASE_URL", "postgresql://me:secret@one:5432,two/nooble?sslmode=verify-full&connect_timeout=9"),
        ("REDIS_URL", "unix:///run/redis.sock?db=3"),
        ("REDIS_URL", "rediss://me:secret@redis.example.com?ssl_cert_reqs=none&health_check_interval=10"),
        ("GROQ_BASE_URL", "https://groq.example.com/openai/v1/"),
    ],
)
def test_less_usual_ones_are_taken(clean: pytest.MonkeyPatch, name: str, value: str) -> None:
    clean.setenv(name, value)
    assert env.load()[name] == value


def test_the_items_of_a_list_may_have_spaces_around_them(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("ALLOWED_HOSTS", "api.example.com, .example.org ,[::1],10.0.0.1")
    assert env.load()["ALLOWED_HOSTS"] == ["api.example.com", ".example.org", "[::1]", "10.0.0.1"]


def test_keys_of_credentials_keep_their_order(clean: pytest.MonkeyPatch) -> None:
    new, old = ("z:Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=", PRODUCTION["CREDENTIAL_KEYS"])
    clean.setenv("CREDENTIAL_KEYS", f"{new}, {old}")
    keys = {"z": bytes(range(31, -1, -1)), "2026a": bytes(range(32))}
    assert list(env.load()["CREDENTIAL_KEYS"].items()) == list(keys.items())


def test_production_names_everything_it_cannot_do_without(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("DJANGO_SETTINGS_MODULE", "settings.prod")
    with pytest.raises(env.InvalidEnvironmentError) as caught:
        env.load()
    missing = {line.split(":")[0].strip() for line in str(caught.value).splitlines() if "not set" in line}
    assert missing == {"SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL", "REDIS_URL", "CREDENTIAL_KEYS"}
    assert all(f"Example: {name}=" in str(caught.value) for name in missing)


def test_development_needs_nothing(clean: pytest.MonkeyPatch) -> None:
    values = env.load()
    assert values == {variable.name: variable.default for variable in VARIABLES}


def test_an_empty_variable_counts_as_not_set(clean: pytest.MonkeyPatch) -> None:
    for name in ("WEB_PORT", "DATABASE_URL", "ALLOWED_HOSTS", "LOG_LEVEL"):
        clean.setenv(name, "")
    assert env.load()["WEB_PORT"] == 8000
    clean.setenv("DJANGO_SETTINGS_MODULE", "settings.prod")
    with pytest.raises(env.InvalidEnvironmentError, match="ALLOWED_HOSTS"):
        env.load()


#: Of secrets the example is a command that makes one, so that nobody has the same.
TO_BE_MADE = {"SECRET_KEY", "CREDENTIAL_KEYS"}


@pytest.mark.parametrize(
    "variable", [each for each in VARIABLES if each.name not in TO_BE_MADE], ids=lambda variable: variable.name
)
def test_every_example_is_valid(variable: Variable, clean: pytest.MonkeyPatch) -> None:
    clean.setenv(variable.name, variable.example)
    assert env.load()[variable.name]


# What only the applications can judge


class StorageThatRepeats(Storage):
    """Says what it was given, a secret perhaps, when it refuses it."""

    def __init__(self, **options: Any) -> None:
        raise ValueError(options)


def storage(backend: str, **options: Any) -> dict[str, Any]:
    return {"STORAGES": {**settings.STORAGES, "default": {"BACKEND": backend, "OPTIONS": options}}}


AZURE = {"DEFAULT_CHAT_PROVIDER": "azure_openai", "DEFAULT_CHAT_MODEL": "gpt-4o-mini"}
UNFIT: list[tuple[str, dict[str, Any], str]] = [
    ("STORAGE_BACKEND", storage("acme.Storage"), "cannot be imported"),
    ("STORAGE_BACKEND", storage("decimal.Decimal"), "not a Django storage class"),
    ("STORAGE_OPTIONS", storage(FILE_SYSTEM, bucket="hidden"), "unexpected keyword argument 'bucket'"),
    ("STORAGE_OPTIONS", storage(f"{__name__}.StorageThatRepeats", key="hidden"), "does not take them (ValueError)"),
    ("DEFAULT_CHAT_PROVIDER", {"DEFAULT_CHAT_PROVIDER": "acme"}, "no provider 'acme'"),
    *[
        (
            "WORK_SETTINGS_FILE",
            {"WORK_SETTINGS": {"fallback_models": [name]}},
            f"fallback_models cannot have {name!r}",
        )
        for name in ("acme/7b", "openai", "openai/", "/x")
    ],
    ("DEFAULT_EMBEDDING_PROVIDER", {"DEFAULT_EMBEDDING_PROVIDER": "groq"}, "groq makes no vectors"),
    ("DEFAULT_CHAT_MODEL", {"DEFAULT_CHAT_MODEL": "acme-7b"}, "no model 'acme-7b'"),
    ("DEFAULT_CHAT_MODEL", {"DEFAULT_CHAT_MODEL": "wordllama-256"}, "no model 'wordllama-256' for answers"),
    # Another provider is chosen, and the model left at its default.
    ("DEFAULT_EMBEDDING_MODEL", {"DEFAULT_EMBEDDING_PROVIDER": "openai"}, "no model 'wordllama-256'"),
    ("DEFAULT_EMBEDDING_DIMENSIONS", {"DEFAULT_EMBEDDING_DIMENSIONS": 100}, "64, 128, 256 dimensions, not of 100"),
    ("WORK_SETTINGS_FILE", {"WORK_SETTINGS": {"llm_config.extras": {"top_p": 1}}}, "local's extractive takes none"),
    ("WORK_SETTINGS_FILE", {"WORK_SETTINGS": {"llm_config.max_tokens": 5000}}, "must be at most 4096 for extractive"),
    ("GROQ_API_KEY", {"DEFAULT_CHAT_PROVIDER": "groq", "DEFAULT_CHAT_MODEL": "llama-3.1-8b-instant"}, "Not set, and"),
    ("AZURE_OPENAI_ENDPOINT", {**AZURE, "NOOBLE_PROVIDERS": {"azure_openai": {"api_key": "any"}}}, "Not set, and"),
    (
        "AZURE_OPENAI_DEPLOYMENTS",
        {"NOOBLE_PROVIDERS": {"azure_openai": {"models": {"support": "gpt-99"}}}},
        "no 'gpt-99' that nooble knows of, which 'support' is",
    ),
]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_way_to_start_refuses_what_only_the_applications_can_judge(command: list[str]) -> None:
    bad = {"STORAGE_BACKEND": "decimal.Decimal", "DEFAULT_CHAT_PROVIDER": "acme"}
    result = run(*command, **PRODUCTION | bad)
    assert result.returncode == 1
    for name in bad:
        assert f"{name}: " in result.stderr
        assert f"Example: {name}=" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("name", "given", "why"), UNFIT)
def test_a_value_that_nothing_could_come_of_is_refused(name: str, given: dict[str, Any], why: str) -> None:
    with override_settings(**given), pytest.raises(env.InvalidEnvironmentError) as caught:
        checks.require_environment()
    [line] = [line for line in str(caught.value).splitlines() if line.startswith(f"  {name}: ")]
    assert why in line
    assert f"Example: {name}=" in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(("said", "refused"), [({}, []), ({"llm_config.max_tokens": 4000}, ["nooble.E023"])])
def test_a_longest_answer_is_held_against_its_model_where_the_deployment_sets_it(
    said: dict[str, Any], refused: list[str]
) -> None:
    ollama = {"base_url": "http://localhost:11434/v1", "context_window": 4096}
    names = {"DEFAULT_CHAT_PROVIDER": "ollama", "DEFAULT_CHAT_MODEL": "qwen3:8b"}
    with override_settings(NOOBLE_PROVIDERS={"ollama": ollama}, WORK_SETTINGS=said, **names):
        assert [error.id for error in checks.default_models()] == refused


def test_a_model_that_only_the_service_can_know_is_taken() -> None:
    service = {"base_url": "http://llm.example.com/v1", "api_key": "any"}
    names = {"DEFAULT_EMBEDDING_PROVIDER": "openai", "DEFAULT_EMBEDDING_MODEL": "wordllama-256"}
    with override_settings(NOOBLE_PROVIDERS={"openai": {"api_key": "any"}}, **names):
        assert [error.id for error in checks.default_models()] == ["nooble.E022"]
    with override_settings(NOOBLE_PROVIDERS={"openai": service}, **names):
        assert checks.default_models() == []
        checks.require_environment()


@pytest.mark.parametrize("provider", ["ollama", "openai"])
def test_no_provider_has_the_local_models_unless_it_is_told_to_be_elsewhere(provider: str) -> None:
    given = PRODUCTION | {"DEFAULT_CHAT_PROVIDER": provider, "DEFAULT_CHAT_MODEL": "extractive"}
    result = run("manage.py", "check", **given)
    assert "DEFAULT_CHAT_MODEL: " in result.stderr
    assert f"{provider} has no model 'extractive' for answers" in result.stderr


def test_a_command_that_calls_no_provider_needs_no_key() -> None:
    chosen = {"DEFAULT_CHAT_PROVIDER": "openai", "DEFAULT_CHAT_MODEL": "gpt-4o-mini"}
    assert run("manage.py", "check", **PRODUCTION | chosen).returncode == 0
    assert "nooble.E025" in run("manage.py", "check", "--deploy", **PRODUCTION | chosen).stderr


def test_production_settings_pass_the_deployment_checks() -> None:
    result = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert result.returncode == 0, result.stderr


def test_one_role_for_both_urls_is_reported_before_a_deployment() -> None:
    same = PRODUCTION | {"DATABASE_OWNER_URL": ""}
    result = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", **same)
    assert result.returncode == 1
    assert "nooble.W001" in result.stderr


def test_a_database_url_becomes_a_connection() -> None:
    database = services.database("postgresql://me:p%40ss@db:5433/nooble?sslmode=require", pool_size=4)
    assert (database["USER"], database["PASSWORD"], database["HOST"]) == ("me", "p@ss", "db")
    options = database["OPTIONS"]
    assert (options["sslmode"], options["pool"]) == ("require", {"min_size": 1, "max_size": 4})


def test_a_silent_database_is_noticed_unless_the_url_is_more_patient() -> None:
    assert services.database("postgresql://db/nooble")["OPTIONS"]["connect_timeout"] == 5
    assert services.database("postgresql://db/nooble?connect_timeout=60")["OPTIONS"]["connect_timeout"] == "60"


def test_a_redis_socket_is_a_broker_too() -> None:
    assert services.broker("unix:///run/redis.sock?db=3") == "redis+socket:///run/redis.sock?virtual_host=3"
    assert services.broker("rediss://redis:6379/1") == "rediss://redis:6379/1"


WORK = {
    "work.toml": '[llm_config]\nprovider = "groq"\nmodel = "llama-3.3-70b-versatile"\n"temperature.rag" = 0.1\n',
    "work.json": '{"llm_config": {"provider": "groq", "model": "llama-3.3-70b-versatile", "temperature.rag": 0.1}}',
}


@pytest.mark.parametrize("name", WORK)
def test_a_file_says_how_the_work_is_done_and_a_variable_goes_before_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(WORK[name])
    shown = (
        "from django.conf import settings as s; print(s.DEFAULT_CHAT_PROVIDER, s.DEFAULT_CHAT_MODEL, s.WORK_SETTINGS)"
    )
    variables = {"DJANGO_SETTINGS_MODULE": "settings.dev", "WORK_SETTINGS_FILE": str(tmp_path / name)}
    result = run("-c", shown, **variables, DEFAULT_CHAT_MODEL="openai/gpt-oss-20b")
    assert result.stdout.startswith("groq openai/gpt-oss-20b {"), result.stderr
    assert "'llm_config.temperature.rag': 0.1" in result.stdout


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("work.toml", "[llm_config.temperature]\nrag = 0.2"),
        ("work.toml", "llm_config.temperature.rag = 0.2"),
        ("work.toml", "[llm_config]\n'temperature.rag' = 0.2"),
        ("work.json", '{"llm_config": {"temperature": {"rag": 0.2}}}'),
        ("work.json", '{"llm_config.temperature.rag": 0.2}'),
    ],
)
def test_a_kinds_value_may_be_written_as_a_table_and_by_its_dotted_name(
    clean: pytest.MonkeyPatch, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    clean.setenv("WORK_SETTINGS_FILE", str(tmp_path / name))
    assert env.load()["WORK_SETTINGS_FILE"] == {"llm_config.temperature.rag": 0.2}


def test_a_table_of_extras_is_one_value(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "work.toml").write_text("[llm_config.extras]\ntop_p = 0.5\nseed = 7")
    clean.setenv("WORK_SETTINGS_FILE", str(tmp_path / "work.toml"))
    assert env.load()["WORK_SETTINGS_FILE"] == {"llm_config.extras": {"top_p": 0.5, "seed": 7}}


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("work.toml", "[llm_config", "not valid TOML"),
        ("work.json", "{", "not valid JSON"),
        ("work.json", "[]", "not a JSON object"),
        ("work.toml", "[llm_config]\ntemperature = 3.0", "llm_config.temperature must be between 0 and 2"),
        ("work.toml", "[llm_config]\ntemprature = 1.0", "llm_config.temprature cannot be set here"),
        ("work.toml", "[llm_config]\n'temperature.code' = 1.0", "llm_config.temperature.code cannot be set here"),
        ("work.toml", "[llm_config.temperature]\ncode = 1.0", "llm_config.temperature.code cannot be set here"),
        ("work.toml", "fallback_models = [1]", "fallback_models must be a list of texts"),
        ("work.json", '{"fallback_models": [{"provider": "openai"}]}', "fallback_models must be a list of texts"),
        ("work.toml", None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_is_refused_with_the_reason(
    clean: pytest.MonkeyPatch, tmp_path: Path, name: str, content: str | None, why: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    clean.setenv("WORK_SETTINGS_FILE", str(tmp_path / name))
    with pytest.raises(env.InvalidEnvironmentError, match="WORK_SETTINGS_FILE: ") as caught:
        env.load()
    assert why in str(caught.value)
