-- Undoes storage.sql, terms.sql and indexing.sql.
DROP FUNCTION nooble_unindex_document(uuid, uuid);
DROP FUNCTION nooble_index_document(uuid, uuid);
DROP FUNCTION nooble_question_terms(uuid, text);
DROP FUNCTION nooble_terms_of(sparsevec);
DROP FUNCTION nooble_sparse(text);
DROP FUNCTION nooble_saturated(integer, bigint, double precision);
DROP FUNCTION nooble_terms(regconfig, text);
DROP FUNCTION nooble_readable(text);
DROP FUNCTION nooble_term(text);
ALTER TABLE collections_chunkterms RESET (toast_tuple_target);
ALTER TABLE collections_chunkembedding RESET (toast_tuple_target);
