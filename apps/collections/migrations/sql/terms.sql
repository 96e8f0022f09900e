-- Lexical retrieval as sparse vectors: a chunk is its saturated term frequencies, a question its inverse document
-- frequencies, and their inner product is BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework").

-- A stem's place in every sparse vector, 1 to 2^28. md5, because it is the same on every platform and in every version
-- of PostgreSQL, which hashtext() is not. Two stems in one place count as one term: of 100,000 stems, 1 in 2,700 shares.
CREATE FUNCTION nooble_term(lexeme text) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ('x' || left(md5(lexeme), 7))::bit(28)::integer + 1;

-- A text as it is handed to to_tsvector(), whose limits it keeps: above 1 MB of lexemes it fails, and its parser takes
-- quadratic time on some unbroken stretches (25 s for 'a_' 32,000 times, found by trying). So 65,536 characters are
-- read, some three times as many as the largest chunk has, and a stretch without a space is cut every 200. The worst
-- that was found then takes 0.3 s. Compatibility forms (a PDF's ligatures, full-width letters, accents that stand apart
-- from their letters) are composed first.
CREATE FUNCTION nooble_readable(body text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN regexp_replace(left(normalize(left(body, 65536), NFKC), 65536), '\S{200}', '\& ', 'g');

-- The terms of a text and how often each occurs; no row for a text without any. At most 16,000: as many fit into a
-- sparse vector. One lexeme counts 255 times at most, where saturation has long set in.
CREATE FUNCTION nooble_terms(config regconfig, body text) RETURNS TABLE (term integer, occurrences integer)
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 100
BEGIN ATOMIC
    SELECT nooble_term(lexeme), sum(cardinality(positions))::integer
    FROM unnest(to_tsvector(config, nooble_readable(body)))
    GROUP BY 1
    LIMIT 16000;
END;

-- A chunk's sparse vector: term frequencies, saturated and normalised by the chunk's length, k1 = 1.5 and b = 0.75.
CREATE FUNCTION nooble_saturated(occurrences integer, length bigint, average_length double precision) RETURNS real
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN occurrences * 2.5 / (occurrences + 1.5 * (0.25 + 0.75 * length / average_length));

-- The vector whose entries are given; entries without a term are left out, so that none at all is the empty vector.
CREATE FUNCTION nooble_sparse(entries text) RETURNS sparsevec
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('{' || coalesce(entries, '') || '}/268435456')::sparsevec;

-- The terms that stand in a sparse vector.
CREATE FUNCTION nooble_terms_of(vector sparsevec) RETURNS TABLE (term integer)
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 100
BEGIN ATOMIC
    SELECT split_part(entry, ':', 1)::integer
    FROM string_to_table(trim('{}' FROM split_part(vector::text, '/', 1)), ',') AS entry;
END;

-- A question as inverse document frequencies, ln(1 + (N - df + 0.5) / (df + 0.5)) = ln((N + 1) / (df + 0.5)), of its
-- terms in a space. Terms that the space does not know weigh most: they meet no chunk, but are part of the question.
CREATE FUNCTION nooble_question_terms(space uuid, question text) RETURNS sparsevec
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
AS $$
    SELECT nooble_sparse(string_agg(asked.term || ':' || (asked.occurrences * ln((s.chunks + 1) / (0.5 + coalesce(
        (SELECT known.chunks FROM collections_termstatistic AS known WHERE known.space_id = s.id AND known.term = asked.term),
        0))))::real, ','))
    FROM collections_embeddingspace AS s
        CROSS JOIN LATERAL nooble_terms(s.text_search_config::regconfig, question) AS asked
    WHERE s.id = space;
$$;
