"""How vectors and terms are stored, and the functions that index a document and weigh a question: see the SQL files."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parent / "sql"

DROP = """
DROP FUNCTION nooble_unindex_document, nooble_index_document, nooble_question_terms, nooble_terms_of, nooble_sparse,
    nooble_saturated, nooble_terms, nooble_readable, nooble_term;
ALTER TABLE collections_chunkterms RESET (toast_tuple_target);
ALTER TABLE collections_chunkembedding RESET (toast_tuple_target);
"""


class Migration(migrations.Migration):
    dependencies = [("collections", "0002_policies")]
    operations = [
        migrations.RunSQL("".join((SQL / f"{name}.sql").read_text() for name in ("storage", "terms", "indexing")), DROP)
    ]
