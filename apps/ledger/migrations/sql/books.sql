-- The books: what an entry does to statistics and budget, in one place for everything that writes one. All of it runs
-- in the transaction of its caller and as nooble_till, which owns the functions that are called from outside (SECURITY
-- DEFINER) and nothing else. Operators move sums in a repair, and write no entry: see rights.sql.
--
-- Locks are taken in one order everywhere: operation, attempt, entry, daily rows, monthly rows, budget; rows of one
-- table by their key, of a payer's budgets the latest month first. The budget is the hot row, so it comes last and is
-- held for the shortest time. A refusal raises, and so undoes everything before it. A discrepancy may be locked anywhere:
-- its subject is an operation, an attempt or an entry that the same transaction has locked or written.
--
-- Hold and settle are the busiest statements of nooble, and most of what a statement costs is starting its executor. So
-- they read what they need in the statement that uses it; and what they call returns a value, because an assignment is
-- evaluated on the spot where PERFORM is a statement.

-- Tokens in exclusive buckets, and who counted them: apps.ledger.types.TokenCounts.
CREATE TYPE ledger_counts AS (
    fresh_input_tokens bigint,
    cached_input_tokens bigint,
    cache_write_tokens bigint,
    plain_output_tokens bigint,
    reasoning_tokens bigint,
    token_source text
);

-- What a payer has agreed to, its own limits or its tier's, and the date it is there.
CREATE VIEW ledger_terms WITH (security_invoker = true) AS
    SELECT t.id AS payer_tenant_id, t.time_zone AS zone,
           (statement_timestamp() AT TIME ZONE t.time_zone)::date AS today,
           coalesce(t.monthly_token_limit, tier.monthly_token_limit) AS monthly_limit,
           coalesce(t.daily_token_limit, tier.daily_token_limit) AS daily_limit,
           t.hard_limit AS is_hard
      FROM tenants_tenant t LEFT JOIN tenants_tier tier ON tier.name = t.tier_id;

-- Of one expression each, so that they are planned as part of whatever calls them.
CREATE FUNCTION ledger_sum(c ledger_counts) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT c.fresh_input_tokens + c.cached_input_tokens + c.cache_write_tokens + c.plain_output_tokens
           + c.reasoning_tokens;
$$;

-- The price of a model at a moment: the payer's own before everybody's. No row: it has none.
CREATE FUNCTION ledger_price_of(p_payer uuid, p_provider text, p_model text, p_at timestamptz)
RETURNS SETOF ledger_price LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT p.* FROM ledger_price p
     WHERE p.provider = p_provider AND p.model = p_model
       AND p.tenant_id IN (p_payer, '00000000-0000-0000-0000-000000000000')
       AND p.starts_at <= p_at AND (p.ends_at IS NULL OR p.ends_at > p_at)
     ORDER BY p.tenant_id = '00000000-0000-0000-0000-000000000000', p.starts_at DESC LIMIT 1;
$$;

-- What tokens cost at prices for a million of each, in USD with ten decimals. No price: null, never zero.
CREATE FUNCTION ledger_cost(
    p_fresh bigint, p_fresh_usd numeric, p_cached bigint, p_cached_usd numeric, p_cache_write bigint,
    p_cache_write_usd numeric, p_plain bigint, p_plain_usd numeric, p_reasoning bigint, p_reasoning_usd numeric
) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
    SELECT round((p_fresh * p_fresh_usd + p_cached * p_cached_usd + p_cache_write * p_cache_write_usd
                  + p_plain * p_plain_usd + p_reasoning * p_reasoning_usd) / 1000000, 10);
$$;

-- Takes a hold on the payer's budget by one conditional UPDATE. Returns whether it fits the month and the day. The row
-- keeps the limit for the record.
CREATE FUNCTION ledger_take(p_payer uuid, p_day date, p_hold bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_month CONSTANT date := date_trunc('month', p_day)::date;
BEGIN
    FOR round IN 1..2 LOOP
        -- A day before the row's own, which only a change of time zone brings, has no daily limit any more.
        UPDATE ledger_budget b
           SET held_tokens = b.held_tokens + p_hold,
               limit_tokens = terms.monthly_limit,
               day = greatest(b.day, p_day),
               day_spent_tokens = CASE WHEN b.day >= p_day THEN b.day_spent_tokens ELSE 0 END,
               day_held_tokens = CASE WHEN b.day > p_day THEN b.day_held_tokens
                                      WHEN b.day = p_day THEN b.day_held_tokens + p_hold
                                      ELSE p_hold END
          FROM ledger_terms terms
         WHERE terms.payer_tenant_id = p_payer AND b.tenant_id = p_payer AND b.starts_on = v_month
           AND (NOT terms.is_hard OR (
                coalesce(b.spent_tokens + b.held_tokens + p_hold <= terms.monthly_limit, true)
                AND (coalesce(b.day > p_day, false)
                     OR coalesce(CASE WHEN b.day = p_day THEN b.day_spent_tokens + b.day_held_tokens ELSE 0 END
                                 + p_hold <= terms.daily_limit, true))));
        IF FOUND THEN
            RETURN true;
        END IF;
        -- No row yet in the month's first call; of two first calls one inserts, both then update.
        INSERT INTO ledger_budget (tenant_id, starts_on, limit_tokens, spent_tokens, held_tokens, day_spent_tokens,
                                   day_held_tokens)
        SELECT p_payer, v_month, terms.monthly_limit, 0, 0, 0, 0
          FROM ledger_terms terms WHERE terms.payer_tenant_id = p_payer
        ON CONFLICT (tenant_id, starts_on) DO NOTHING;
    END LOOP;
    RETURN false;
END $$;

-- Raises budget_exceeded: which limit a hold does not fit, and when it is set back.
CREATE FUNCTION ledger_refuse(p_payer uuid, p_day date, p_hold bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_month CONSTANT date := date_trunc('month', p_day)::date;
    budget ledger_budget;
    terms ledger_terms;
    v_is_monthly boolean;
BEGIN
    SELECT * INTO STRICT budget FROM ledger_budget b WHERE b.tenant_id = p_payer AND b.starts_on = v_month;
    SELECT * INTO STRICT terms FROM ledger_terms t WHERE t.payer_tenant_id = p_payer;
    v_is_monthly := terms.daily_limit IS NULL
        OR coalesce(budget.spent_tokens + budget.held_tokens + p_hold > terms.monthly_limit, false);
    RAISE EXCEPTION 'budget_exceeded' USING ERRCODE = 'NB402', DETAIL = jsonb_build_object(
        'period', CASE WHEN v_is_monthly THEN 'month' ELSE 'day' END,
        'limit_tokens', CASE WHEN v_is_monthly THEN terms.monthly_limit ELSE terms.daily_limit END,
        'spent_tokens', CASE WHEN v_is_monthly THEN budget.spent_tokens
                             WHEN budget.day = p_day THEN budget.day_spent_tokens ELSE 0 END,
        'held_tokens', CASE WHEN v_is_monthly THEN budget.held_tokens
                            WHEN budget.day = p_day THEN budget.day_held_tokens ELSE 0 END,
        'needed_tokens', p_hold,
        'resets_at', to_char((CASE WHEN v_is_monthly THEN v_month + interval '1 month' ELSE p_day + interval '1 day' END)
                             AT TIME ZONE terms.zone AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))::text;
END $$;

-- Moves the budget of a day and its month: holds go out, what was spent comes in. A budget that somebody has damaged must
-- not keep a paid call from being booked: held ends at zero, and reconciliation compares it with the attempts. Returns
-- whether anything moved.
CREATE FUNCTION ledger_move(p_payer uuid, p_day date, p_released bigint, p_spent bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF p_released = 0 AND p_spent = 0 THEN
        RETURN false;
    END IF;
    -- A payer's month has its row after the first hold or entry in it.
    FOR round IN 1..2 LOOP
        UPDATE ledger_budget b
           SET held_tokens = greatest(b.held_tokens - p_released, 0),
               spent_tokens = b.spent_tokens + p_spent,
               day = greatest(b.day, p_day),
               day_spent_tokens = CASE WHEN b.day > p_day THEN b.day_spent_tokens
                                       WHEN b.day = p_day THEN b.day_spent_tokens + p_spent
                                       ELSE p_spent END,
               day_held_tokens = CASE WHEN b.day > p_day THEN b.day_held_tokens
                                      WHEN b.day = p_day THEN greatest(b.day_held_tokens - p_released, 0)
                                      ELSE 0 END
         WHERE b.tenant_id = p_payer AND b.starts_on = date_trunc('month', p_day)::date;
        EXIT WHEN FOUND;
        INSERT INTO ledger_budget (tenant_id, starts_on, spent_tokens, held_tokens, day_spent_tokens, day_held_tokens)
        VALUES (p_payer, date_trunc('month', p_day)::date, 0, 0, 0, 0)
        ON CONFLICT (tenant_id, starts_on) DO NOTHING;
    END LOOP;
    RETURN true;
END $$;

-- Counting entries in the rows of their days and of their months: functions of the same text for two tables, which differ
-- in the name of a column. They return how many rows of statistics they touched.
--   ledger_count_…       one entry, what settling writes. It finds its row there nearly always, and an UPDATE then costs
--                        less than grouping and inserting
--   ledger_count_all_…   entries by their ids
DO $make$
DECLARE
    v_key CONSTANT text := 'owner_tenant_id, tenant_id, provider, model, agent_id, collection_id, operation, token_type, '
                           'token_source, billable';
    v_functions CONSTANT text := $functions$
CREATE FUNCTION ledger_count_all_%1$s(p_entry_ids uuid[]) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    nobody CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    v_rows integer;
BEGIN
    INSERT INTO ledger_usage%1$s AS u (
        payer_tenant_id, %2$s, %4$s, fresh_input_tokens, cached_input_tokens, cache_write_tokens,
        plain_output_tokens, reasoning_tokens, total_tokens, cost_usd, entries, unpriced_entries)
    SELECT e.payer_tenant_id, %3$s, e.owner_tenant_id, e.tenant_id, e.provider, e.model, coalesce(e.agent_id, nobody),
           coalesce(e.collection_id, nobody), e.operation, e.token_type, e.token_source, e.billable,
           sum(e.fresh_input_tokens), sum(e.cached_input_tokens), sum(e.cache_write_tokens), sum(e.plain_output_tokens),
           sum(e.reasoning_tokens), sum(e.total_tokens), coalesce(sum(e.cost_usd), 0), count(*),
           count(*) FILTER (WHERE e.cost_usd IS NULL)
      FROM ledger_entry e WHERE e.id = ANY (p_entry_ids)
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
     ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
    ON CONFLICT (payer_tenant_id, %2$s, %4$s) DO UPDATE
       SET fresh_input_tokens = u.fresh_input_tokens + excluded.fresh_input_tokens,
           cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
           cache_write_tokens = u.cache_write_tokens + excluded.cache_write_tokens,
           plain_output_tokens = u.plain_output_tokens + excluded.plain_output_tokens,
           reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
           total_tokens = u.total_tokens + excluded.total_tokens,
           cost_usd = u.cost_usd + excluded.cost_usd,
           entries = u.entries + excluded.entries,
           unpriced_entries = u.unpriced_entries + excluded.unpriced_entries;
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    RETURN v_rows;
END $$;

CREATE FUNCTION ledger_count_%1$s(e ledger_entry) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    nobody CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
    UPDATE ledger_usage%1$s u
       SET fresh_input_tokens = u.fresh_input_tokens + e.fresh_input_tokens,
           cached_input_tokens = u.cached_input_tokens + e.cached_input_tokens,
           cache_write_tokens = u.cache_write_tokens + e.cache_write_tokens,
           plain_output_tokens = u.plain_output_tokens + e.plain_output_tokens,
           reasoning_tokens = u.reasoning_tokens + e.reasoning_tokens,
           total_tokens = u.total_tokens + e.total_tokens,
           cost_usd = u.cost_usd + coalesce(e.cost_usd, 0),
           entries = u.entries + 1,
           unpriced_entries = u.unpriced_entries + (e.cost_usd IS NULL)::integer
     WHERE u.payer_tenant_id = e.payer_tenant_id AND u.%2$s = %3$s
       AND u.owner_tenant_id = e.owner_tenant_id AND u.tenant_id = e.tenant_id AND u.provider = e.provider
       AND u.model = e.model AND u.agent_id = coalesce(e.agent_id, nobody)
       AND u.collection_id = coalesce(e.collection_id, nobody) AND u.operation = e.operation
       AND u.token_type = e.token_type AND u.token_source = e.token_source AND u.billable = e.billable;
    RETURN CASE WHEN FOUND THEN 1 ELSE ledger_count_all_%1$s(ARRAY[e.id]) END;
END $$;
    $functions$;
BEGIN
    EXECUTE format(v_functions, 'daily', 'day', 'e.day', v_key);
    EXECUTE format(v_functions, 'monthly', 'month', 'date_trunc(''month'', e.day)::date', v_key);
END $make$;

-- An id in the order of time (UUIDv7), as apps.core.ids.new_id makes them: lists are paged by it.
CREATE FUNCTION ledger_new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT (substr(ms, 1, 8) || '-' || substr(ms, 9) || '-7' || substr(gen_random_uuid()::text, 16))::uuid
      FROM lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') AS ms;
$$;

-- Keeps a note of something that must be looked at. The same thing again is the same row, seen once more; what an
-- operator has resolved stays resolved until it changes. Returns whether it is news.
CREATE FUNCTION ledger_note(p_payer uuid, p_kind text, p_subject text, p_amount bigint, p_evidence jsonb)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_known boolean;
BEGIN
    SELECT d.state <> 'repaired' AND d.amount_tokens = p_amount AND d.evidence = p_evidence INTO v_known
      FROM ledger_discrepancy d WHERE d.tenant_id = p_payer AND d.kind = p_kind AND d.subject = p_subject;
    INSERT INTO ledger_discrepancy AS d (id, tenant_id, kind, state, subject, amount_tokens, evidence, times_seen, resolution)
    VALUES (ledger_new_id(), p_payer, p_kind, 'open', p_subject, p_amount, p_evidence, 1, '')
    ON CONFLICT (tenant_id, kind, subject) DO UPDATE
       SET state = CASE WHEN v_known THEN d.state ELSE 'open' END,
           resolved_at = CASE WHEN v_known THEN d.resolved_at END,
           resolution = CASE WHEN v_known THEN d.resolution ELSE '' END,
           amount_tokens = excluded.amount_tokens, evidence = excluded.evidence,
           times_seen = d.times_seen + 1, last_seen_at = clock_timestamp();
    RETURN NOT coalesce(v_known, false);
END $$;

-- Corrections of one entry follow each other: each sees what those before it left. Nobody may lock the row itself, which
-- takes the right to change it.
CREATE FUNCTION ledger_lock_entry(p_entry_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('ledger_entry ' || p_entry_id, 0));
END $$;

-- Corrects an entry by another that names it: the difference, signed, in the books of the payer's present day. The key
-- makes it happen once: with a key that is there already, the entry that has it is returned.
-- p_cost null: what the tokens cost at p_price_id, or at the price that the entry has by now, its own or that of the last
-- correction which had one. p_cost without p_price_id: a cost that comes from no price, and so names none.
CREATE FUNCTION ledger_adjust(
    p_id uuid, p_corrects uuid, p_key text, p_counts ledger_counts, p_cost numeric, p_price_id uuid, p_reason text,
    p_actor text, p_metadata jsonb
) RETURNS ledger_entry LANGUAGE plpgsql AS $$
DECLARE
    was ledger_entry;
    e ledger_entry;
    price ledger_price;
    v_total CONSTANT bigint := ledger_sum(p_counts);
BEGIN
    PERFORM ledger_lock_entry(p_corrects);
    SELECT * INTO was FROM ledger_entry x WHERE x.id = p_corrects;
    IF was.id IS NULL THEN
        RAISE EXCEPTION 'no such entry' USING ERRCODE = 'NB404';
    END IF;
    SELECT p.* INTO price FROM ledger_price p
     WHERE p.id = coalesce(p_price_id, (
        SELECT x.price_id FROM ledger_entry x WHERE x.corrects_id = was.id AND x.price_id IS NOT NULL
         ORDER BY x.recorded_at DESC, x.id DESC LIMIT 1), was.price_id);
    INSERT INTO ledger_entry (
        id, tenant_id, owner_tenant_id, payer_tenant_id, kind, idempotency_key, payload_hash, operation_id, attempt_id,
        corrects_id, token_type, operation, provider, model, model_family, fresh_input_tokens, cached_input_tokens,
        cache_write_tokens, plain_output_tokens, reasoning_tokens, total_tokens, token_source, billable, cost_usd,
        price_id, reason, actor, day, agent_id, collection_id, document_id, conversation_id, run_id, context_id,
        provider_request_id, attempts, occurred_at, metadata)
    VALUES (
        p_id, was.tenant_id, was.owner_tenant_id, was.payer_tenant_id, 'adjustment', p_key, was.payload_hash,
        was.operation_id, was.attempt_id, was.id, was.token_type, was.operation, was.provider, was.model,
        was.model_family, p_counts.fresh_input_tokens, p_counts.cached_input_tokens, p_counts.cache_write_tokens,
        p_counts.plain_output_tokens, p_counts.reasoning_tokens, v_total, p_counts.token_source, was.billable,
        coalesce(p_cost, CASE WHEN was.operation = 'internal' AND NOT was.billable THEN 0 ELSE ledger_cost(
            p_counts.fresh_input_tokens, price.fresh_input_usd, p_counts.cached_input_tokens, price.cached_input_usd,
            p_counts.cache_write_tokens, price.cache_write_usd, p_counts.plain_output_tokens, price.plain_output_usd,
            p_counts.reasoning_tokens, price.reasoning_usd) END),
        CASE WHEN p_cost IS NULL THEN price.id ELSE p_price_id END,
        p_reason, p_actor, (SELECT t.today FROM ledger_terms t WHERE t.payer_tenant_id = was.payer_tenant_id),
        was.agent_id, was.collection_id, was.document_id, was.conversation_id, was.run_id, was.context_id,
        was.provider_request_id, was.attempts, clock_timestamp(), p_metadata)
    ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
    RETURNING * INTO e;
    IF e.id IS NULL THEN
        SELECT * INTO STRICT e FROM ledger_entry x WHERE x.tenant_id = was.tenant_id AND x.idempotency_key = p_key;
        IF (e.corrects_id, e.fresh_input_tokens, e.cached_input_tokens, e.cache_write_tokens, e.plain_output_tokens,
            e.reasoning_tokens, e.cost_usd)
           IS DISTINCT FROM
           (p_corrects, p_counts.fresh_input_tokens, p_counts.cached_input_tokens, p_counts.cache_write_tokens,
            p_counts.plain_output_tokens, p_counts.reasoning_tokens, coalesce(p_cost, e.cost_usd)) THEN
            RAISE EXCEPTION 'idempotency_conflict' USING ERRCODE = 'NB409', DETAIL = e.id::text;
        END IF;
        RETURN e;
    END IF;
    PERFORM ledger_count_daily(e), ledger_count_monthly(e);
    PERFORM ledger_move(e.payer_tenant_id, e.day, 0, CASE WHEN e.billable THEN v_total ELSE 0 END);
    RETURN e;
END $$;

-- Corrects an entry, with whatever was corrected before, to what is true. Of one attempt there is one truth.
CREATE FUNCTION ledger_correct_to(p_id uuid, p_entry_id uuid, p_attempt_id uuid, p_truth ledger_counts, p_reason text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    difference ledger_counts;
BEGIN
    PERFORM ledger_lock_entry(p_entry_id);
    SELECT p_truth.fresh_input_tokens - sum(e.fresh_input_tokens), p_truth.cached_input_tokens - sum(e.cached_input_tokens),
           p_truth.cache_write_tokens - sum(e.cache_write_tokens), p_truth.plain_output_tokens - sum(e.plain_output_tokens),
           p_truth.reasoning_tokens - sum(e.reasoning_tokens), p_truth.token_source
      INTO difference FROM ledger_entry e WHERE e.id = p_entry_id OR e.corrects_id = p_entry_id;
    PERFORM ledger_adjust(p_id, p_entry_id, 'truth:' || p_attempt_id, difference, NULL, NULL, p_reason, 'nooble', '{}');
END $$;

-- Books usage that no call of the till made, many at once. p_events: a JSON array of objects with the columns below;
-- "n" is the item's place. Per item: created | duplicate (entry_id is the first one's) | conflict (stored as such).
CREATE FUNCTION ledger_record(p_consumer uuid, p_owner uuid, p_payer uuid, p_events jsonb)
RETURNS TABLE (n integer, outcome text, entry_id uuid) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    terms ledger_terms;
    booked uuid[];
    moved record;
BEGIN
    SELECT * INTO STRICT terms FROM ledger_terms t WHERE t.payer_tenant_id = p_payer;
    -- By key, so that two batches with some keys in common wait for each other in one order.
    WITH inserted AS (
        INSERT INTO ledger_entry (
            id, tenant_id, owner_tenant_id, payer_tenant_id, kind, idempotency_key, payload_hash, token_type, operation,
            provider, model, model_family, fresh_input_tokens, cached_input_tokens, cache_write_tokens,
            plain_output_tokens, reasoning_tokens, total_tokens, token_source, billable, cost_usd, price_id, reason,
            actor, day, agent_id, collection_id, document_id, conversation_id, run_id, context_id, provider_request_id,
            attempts, occurred_at, metadata)
        SELECT v.id, p_consumer, p_owner, p_payer, 'usage', v.key, v.hash, v.token_type, v.operation, v.provider,
               v.model, v.model_family, v.fresh_input_tokens, v.cached_input_tokens, v.cache_write_tokens,
               v.plain_output_tokens, v.reasoning_tokens,
               v.fresh_input_tokens + v.cached_input_tokens + v.cache_write_tokens + v.plain_output_tokens
               + v.reasoning_tokens, v.token_source, v.billable,
               CASE WHEN v.operation = 'internal' AND NOT v.billable THEN 0 ELSE ledger_cost(
                           v.fresh_input_tokens, p.fresh_input_usd, v.cached_input_tokens, p.cached_input_usd,
                           v.cache_write_tokens, p.cache_write_usd, v.plain_output_tokens, p.plain_output_usd,
                           v.reasoning_tokens, p.reasoning_usd) END,
               p.id, '', '', least((v.occurred_at AT TIME ZONE terms.zone)::date, terms.today), v.agent_id,
               v.collection_id, v.document_id, v.conversation_id, v.run_id, v.context_id, '', 0, v.occurred_at, v.metadata
          FROM (
            SELECT DISTINCT ON (x.key) x.* FROM jsonb_to_recordset(p_events) AS x (
                n integer, id uuid, key text, hash text, token_type text, operation text, provider text, model text,
                model_family text, fresh_input_tokens bigint, cached_input_tokens bigint, cache_write_tokens bigint,
                plain_output_tokens bigint, reasoning_tokens bigint, token_source text, billable boolean,
                occurred_at timestamptz, agent_id uuid, collection_id uuid, document_id uuid, conversation_id uuid,
                run_id uuid, context_id uuid, metadata jsonb)
             ORDER BY x.key, x.n
          ) v LEFT JOIN LATERAL ledger_price_of(p_payer, v.provider, v.model, v.occurred_at) p
                -- What no provider did costs nothing, whatever its model costs.
                ON p.id IS NOT NULL AND (v.operation <> 'internal' OR v.billable)
         ORDER BY v.key
        ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
        RETURNING id
    )
    SELECT array_agg(inserted.id) INTO booked FROM inserted;

    IF booked IS NOT NULL THEN
        PERFORM ledger_count_all_daily(booked), ledger_count_all_monthly(booked);
        FOR moved IN
            SELECT e.day, coalesce(sum(e.total_tokens) FILTER (WHERE e.billable), 0)::bigint AS tokens
              FROM ledger_entry e WHERE e.id = ANY (booked) GROUP BY 1 ORDER BY 1 DESC
        LOOP
            PERFORM ledger_move(p_payer, moved.day, 0, moved.tokens);
        END LOOP;
    END IF;

    -- Nothing was there before, nearly always.
    IF cardinality(booked) = jsonb_array_length(p_events) THEN
        RETURN QUERY
        SELECT x.n, 'created', x.id FROM jsonb_to_recordset(p_events) AS x (n integer, id uuid) ORDER BY x.n;
        RETURN;
    END IF;
    PERFORM ledger_note(p_payer, 'idempotency_conflict', 'entry ' || e.id, 0, jsonb_build_object(
                'entry_id', e.id, 'idempotency_key', x.key, 'payload_hash', e.payload_hash, 'other_payload_hash', x.hash))
      FROM jsonb_to_recordset(p_events) AS x (key text, hash text)
      JOIN ledger_entry e ON e.tenant_id = p_consumer AND e.idempotency_key = x.key AND e.payload_hash <> x.hash;
    RETURN QUERY
    SELECT x.n,
           CASE WHEN e.id = x.id THEN 'created' WHEN e.payload_hash = x.hash THEN 'duplicate' ELSE 'conflict' END,
           e.id
      FROM jsonb_to_recordset(p_events) AS x (n integer, id uuid, key text, hash text)
      JOIN ledger_entry e ON e.tenant_id = p_consumer AND e.idempotency_key = x.key
     ORDER BY x.n;
END $$;
