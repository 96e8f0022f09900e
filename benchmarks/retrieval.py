"""How well nooble finds things: nDCG@10 of the three modes of search, and what a search takes.

    python benchmarks/retrieval.py --dataset FOLDER

The folder holds the Cranfield collection in TREC format (``cran.all.1400.xml``, ``cran.qry.xml``,
``cranqrel.trec.txt``). Its documents go the whole way, upload to index, with the local embedding model, in engines that
are started for the purpose and thrown away; what tasks would do is done here, one after the other. The last line is
one JSON object.
"""

import argparse
import json
import math
import os
import re
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

ROOT = Path(__file__).resolve().parent.parent

DEPTH = 10
#: Chunks asked for, so that ten documents are among them.
CHUNKS = 50
#: No vector is less similar than that: the threshold is not what is measured.
NO_THRESHOLD = -1.0


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Documents by their number, questions in order, and for each question the documents that answer it."""

    documents: Mapping[str, str]
    questions: Sequence[str]
    relevant: Sequence[Set[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="the folder of the Cranfield collection")
    dataset = cranfield(parser.parse_args().dataset)
    with scratch_deployment():
        from apps.collections.types import Mode  # noqa: PLC0415 - there are settings only now

        ctx, collection_id = fill(dataset.documents)
        report = {mode: measure(ctx, collection_id, dataset, mode) for mode in get_args(Mode)}
    print(json.dumps(report))


def cranfield(folder: Path) -> Dataset:
    """The n-th question of the file is question n of the judgements; every judged document counts as relevant."""
    records = re.findall(r"<doc>(.*?)</doc>", (folder / "cran.all.1400.xml").read_text(), re.DOTALL)
    questions = re.findall(r"<title>(.*?)</title>", (folder / "cran.qry.xml").read_text(), re.DOTALL)
    relevant: dict[int, set[str]] = defaultdict(set)
    for line in (folder / "cranqrel.trec.txt").read_text().splitlines():
        question, _, document, _ = line.split()
        relevant[int(question)].add(document)
    documents = {_field(record, "docno"): _text(record) for record in records}
    return Dataset(
        # Two records are empty.
        documents={number: text for number, text in documents.items() if text.strip()},
        questions=[" ".join(question.split()) for question in questions],
        relevant=[relevant[number] for number in range(1, len(questions) + 1)],
    )


def _text(record: str) -> str:
    return "\n\n".join(_field(record, name) for name in ("title", "author", "bib", "text"))


def _field(record: str, name: str) -> str:
    found = re.search(rf"<{name}>(.*?)</{name}>", record, re.DOTALL)
    return found[1].strip() if found else ""


def ndcg(ranking: Sequence[str], relevant: Set[str]) -> float:
    """nDCG@10 with binary relevance, as trec_eval computes it (Järvelin and Kekäläinen 2002)."""
    gains = [1 / math.log2(rank + 2) for rank in range(DEPTH)]
    found = sum(gain for gain, document in zip(gains, ranking, strict=False) if document in relevant)
    return found / sum(gains[: len(relevant)])


@contextmanager
def scratch_deployment() -> Iterator[None]:
    """nooble with nothing in it, in a directory that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="nooble-benchmark-") as directory:
        for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "BROKER_URL"):
            os.environ.pop(name, None)
        os.environ |= {"DJANGO_SETTINGS_MODULE": "settings.test", "NOOBLE_DATA_DIR": directory}
        # A script's own folder is where Python looks for modules, not the project's.
        sys.path.insert(0, str(ROOT))
        import django  # noqa: PLC0415 - after the environment it reads
        from django.core.management import call_command  # noqa: PLC0415

        from nooble import embedded  # noqa: PLC0415

        django.setup()
        with embedded.engines(Path(directory)):
            call_command("migrate", verbosity=0)
            yield
            _close_connections()


def _close_connections() -> None:
    from django.db import connections  # noqa: PLC0415

    connections.close_all()


def fill(texts: Mapping[str, str]) -> tuple[Any, UUID]:
    """A tenant with one collection of these documents, ready to be searched; its context and the collection's id."""
    from apps.collections import services  # noqa: PLC0415 - settings first
    from apps.tenants import services as tenants  # noqa: PLC0415

    tenant, _ = tenants.create_tenant(slug="benchmark", name="Benchmark", tier="enterprise")
    ctx = tenants.context_of(tenant)
    collection = services.create_collection(ctx, slug="cranfield", name="Cranfield", settings={}, tier_defaults={})
    started = time.perf_counter()
    for number, text in texts.items():
        add(ctx, collection.pk, f"{number}.txt", text)
    print(f"{len(texts)} documents in {time.perf_counter() - started:.0f} s")
    return ctx, collection.pk


def add(ctx: Any, collection_id: UUID, name: str, text: str) -> None:
    """Upload a document and do what the tasks do: cut it, embed its batches, index it."""
    from apps.collections import documents, ingestion  # noqa: PLC0415 - settings first
    from apps.collections.models import EmbeddingBatch  # noqa: PLC0415
    from apps.core.db import unit_of_work  # noqa: PLC0415

    data = text.encode()
    upload = documents.Upload(name=name, data=data, content_type="text/plain")
    document = documents.add_document(ctx, collection_id, upload, max_bytes=len(data), tier_defaults={}).document
    ingestion.chunk_document(ctx, document.pk, task_id="benchmark")
    with unit_of_work(ctx):
        batches = list(EmbeddingBatch.objects.filter(document=document).values_list("pk", flat=True))
    for batch in batches:
        ingestion.embed_batch(ctx, batch, task_id="benchmark")


def measure(ctx: Any, collection_id: UUID, dataset: Dataset, mode: Any) -> dict[str, float]:
    """nDCG@10 and the median time of a search, embedding the question included."""
    scores, times = [], []
    for question, relevant in zip(dataset.questions, dataset.relevant, strict=True):
        started = time.perf_counter()
        ranking = search(ctx, collection_id, question, mode)
        times.append(time.perf_counter() - started)
        scores.append(ndcg(ranking, relevant))
    result = {"ndcg@10": round(statistics.mean(scores), 4), "p50_ms": round(statistics.median(times) * 1000, 1)}
    print(f"{mode}: nDCG@10 {result['ndcg@10']:.4f}, {result['p50_ms']} ms")
    return result


def search(ctx: Any, collection_id: UUID, question: str, mode: Any) -> list[str]:
    """The numbers of the documents found, best first; a document stands where its best chunk does."""
    from apps.collections import retrieval  # noqa: PLC0415 - settings first
    from apps.gateway.types import Charge, OperationKind, TokenType  # noqa: PLC0415

    payload = {"query": question, "collection": collection_id, "mode": mode}
    charge = Charge(operation=OperationKind.VECTOR_SEARCH, token_type=TokenType.EMBEDDING, payload=payload)
    found = retrieval.retrieve(
        ctx,
        question,
        collections=[collection_id],
        limit=CHUNKS,
        similarity_threshold=NO_THRESHOLD,
        mode=mode,
        charge=charge,
    )
    return list(dict.fromkeys(hit.document_name.removesuffix(".txt") for hit in found.hits))


if __name__ == "__main__":
    main()
