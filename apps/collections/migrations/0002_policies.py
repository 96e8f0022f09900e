from django.db import migrations

PROTECT = """
CALL nooble_protect('collections_collection', 'owner');
CALL nooble_protect('collections_embeddingspace', 'owner');
CALL nooble_protect('collections_document', 'owner');
CALL nooble_protect('collections_embeddingbatch', 'owner');
CALL nooble_protect('collections_chunk', 'owner');
CALL nooble_protect('collections_chunkembedding', 'owner');
CALL nooble_protect('collections_chunkterms', 'owner');
CALL nooble_protect('collections_termstatistic', 'owner');
CALL nooble_reference('collections_embeddingspace', 'collection_id', 'collections_collection', 'CASCADE');
CALL nooble_reference('collections_document', 'collection_id', 'collections_collection', 'CASCADE');
CALL nooble_reference('collections_document', 'space_id', 'collections_embeddingspace', 'CASCADE');
CALL nooble_reference('collections_embeddingbatch', 'document_id', 'collections_document', 'CASCADE');
CALL nooble_reference('collections_chunk', 'space_id', 'collections_embeddingspace', 'CASCADE');
CALL nooble_reference('collections_chunk', 'document_id', 'collections_document', 'CASCADE');
CALL nooble_reference('collections_chunkembedding', 'chunk_id', 'collections_chunk', 'CASCADE');
CALL nooble_reference('collections_chunkterms', 'chunk_id', 'collections_chunk', 'CASCADE');
CALL nooble_reference('collections_termstatistic', 'space_id', 'collections_embeddingspace', 'CASCADE');
"""
UNPROTECT = """
ALTER TABLE collections_termstatistic DROP CONSTRAINT collections_termstatistic_space_id_tenant;
ALTER TABLE collections_chunkterms DROP CONSTRAINT collections_chunkterms_chunk_id_tenant;
ALTER TABLE collections_chunkembedding DROP CONSTRAINT collections_chunkembedding_chunk_id_tenant;
ALTER TABLE collections_chunk DROP CONSTRAINT collections_chunk_document_id_tenant,
    DROP CONSTRAINT collections_chunk_space_id_tenant;
ALTER TABLE collections_embeddingbatch DROP CONSTRAINT collections_embeddingbatch_document_id_tenant;
ALTER TABLE collections_document DROP CONSTRAINT collections_document_space_id_tenant,
    DROP CONSTRAINT collections_document_collection_id_tenant;
ALTER TABLE collections_embeddingspace DROP CONSTRAINT collections_embeddingspace_collection_id_tenant;
CALL nooble_unprotect('collections_termstatistic');
CALL nooble_unprotect('collections_chunkterms');
CALL nooble_unprotect('collections_chunkembedding');
CALL nooble_unprotect('collections_chunk');
CALL nooble_unprotect('collections_embeddingbatch');
CALL nooble_unprotect('collections_document');
CALL nooble_unprotect('collections_embeddingspace');
CALL nooble_unprotect('collections_collection');
"""


class Migration(migrations.Migration):
    dependencies = [("collections", "0001_tables"), ("core", "0001_row_level_security")]
    operations = [migrations.RunSQL(PROTECT, UNPROTECT)]
