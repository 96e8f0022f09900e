"""What an ExecutionContext costs a question: resolving and building it, signing it, and verifying it in a worker.

    python benchmarks/context.py [--rounds 2000]

No engine is needed: what is measured is this process's own work, on one thread. The context has twenty collections, as
many as a question may search. The last line is one JSON object, medians in milliseconds. Exit status 1: all of it
together takes longer than :data:`LIMIT_MS`.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COLLECTIONS = 20
LIMIT_MS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2000, help="how often each is done")
    rounds = parser.parse_args().rounds
    configure()
    from apps.core.context import restore  # noqa: PLC0415 - there are settings only now

    ctx = build()
    token = ctx.sign()
    report = {
        "build_ms": median(build, rounds),
        "sign_ms": median(ctx.sign, rounds),
        "verify_ms": median(lambda: restore(token), rounds),
        "together_ms": median(lambda: restore(build().sign()), rounds),
        "signed_bytes": len(token),
    }
    print(json.dumps(report))
    sys.exit(complaint(report))


def complaint(report: dict[str, Any]) -> str | None:
    """What is wrong with the figures, if anything is."""
    together = report["together_ms"]
    return f"A context takes {together} ms; the limit is {LIMIT_MS} ms." if together > LIMIT_MS else None


def configure() -> None:
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.dev")
    import django  # noqa: PLC0415 - the settings first

    django.setup()


def build() -> Any:
    """The context of a question as the edge builds it, without what it reads from the database."""
    from apps.core import clock, context  # noqa: PLC0415 - there are settings only now
    from apps.core.ids import new_id  # noqa: PLC0415

    resolved = resolve()
    tenant = new_id()
    return context.ExecutionContext(
        context_type="chat",
        deadline=clock.now() + timedelta(seconds=60),
        tenant_id=tenant,
        tenant_tier="professional",
        payer_tenant_id=tenant,
        owner_tenant_id=tenant,
        agent_id=new_id(),
        agent_version=7,
        conversation_id=new_id(),
        session_id=str(new_id()),
        llm_config=context.LLMConfig(**resolved.section("llm_config")),
        rag_config=rag_config(**resolved.section("rag_config")),
        processing_config=context.ProcessingConfig(**resolved.section("processing_config")),
        config_sources=dict(resolved.sources),
        query_type="rag",
    )


def resolve() -> Any:
    """The cascade, with something said at every level."""
    from apps.core import configuration  # noqa: PLC0415 - there are settings only now
    from apps.core.configuration import Level  # noqa: PLC0415

    layers = {
        Level.REQUEST: configuration.check({"llm_config.temperature": 0.1}, level=Level.REQUEST),
        Level.AGENT: {"llm_config.max_tokens": 500, "rag_config.max_results": 8},
        Level.TIER: configuration.check({"llm_config.retry_attempts": 2}, level=Level.TIER),
    }
    return configuration.resolve(layers, kinds={"rag"})


def rag_config(similarity_threshold: float, **values: Any) -> Any:
    """As many collections as a question may search."""
    from apps.core import context  # noqa: PLC0415 - there are settings only now
    from apps.core.ids import new_id  # noqa: PLC0415

    collections = tuple(
        context.RagCollection(
            collection_id=new_id(),
            embedding_model="wordllama-256",
            embedding_dimensions=256,
            similarity_threshold=similarity_threshold,
        )
        for _ in range(COLLECTIONS)
    )
    return context.RagConfig(collections=collections, **values)


def median(work: Callable[[], Any], rounds: int) -> float:
    """The median time of one round, in milliseconds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return round(statistics.median(times) * 1000, 4)


if __name__ == "__main__":
    main()
