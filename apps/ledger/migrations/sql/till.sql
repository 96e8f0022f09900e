-- The till: hold, settle, close, fail, record. Each is one round trip and one transaction of its own, or a statement in
-- the caller's. SECURITY INVOKER: policies bind them, which is why each opens the scope it was called for.
--
-- Locks are taken in one order everywhere: operation, attempt, entry, daily row, monthly row, budget. The budget is the
-- hot row, so it comes last and is held for the shortest time. A refusal raises, and so undoes everything before it.

CREATE TYPE ledger_held AS (
    outcome text,            -- admitted | done | busy | ended | unresolved
    operation_id uuid,
    epoch integer,
    operation_created_at timestamptz,
    result jsonb,
    attempt_ids uuid[],
    error_code text,
    error_detail text,
    fresh_input_tokens bigint,
    cached_input_tokens bigint,
    cache_write_tokens bigint,
    plain_output_tokens bigint,
    reasoning_tokens bigint,
    token_source text
);

CREATE TYPE ledger_settlement AS (
    outcome text,            -- settled | late | repeated
    operation_id uuid,
    state text,
    result jsonb,
    fresh_input_tokens bigint,
    cached_input_tokens bigint,
    cache_write_tokens bigint,
    plain_output_tokens bigint,
    reasoning_tokens bigint,
    token_source text
);

CREATE FUNCTION ledger_open_scope(p_consumer uuid, p_owner uuid, p_payer uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('nooble.tenant_id', p_consumer::text, true),
            set_config('nooble.owner_id', p_owner::text, true),
            set_config('nooble.payer_id', p_payer::text, true);
END $$;

-- Takes a hold on the payer's budget of a month by one conditional UPDATE; raises budget_exceeded when it does not fit.
-- What decides is the limit that holds now, the tenant's own or its tier's; the row keeps it for the record.
CREATE FUNCTION ledger_take(p_payer uuid, p_month date, p_hold bigint, p_limit bigint, p_hard boolean, p_zone text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    budget ledger_budget;
BEGIN
    FOR round IN 1..2 LOOP
        UPDATE ledger_budget b
           SET held_tokens = b.held_tokens + p_hold, limit_tokens = p_limit
         WHERE b.tenant_id = p_payer AND b.starts_on = p_month
           AND (NOT p_hard OR p_limit IS NULL OR b.spent_tokens + b.held_tokens + p_hold <= p_limit);
        IF FOUND THEN
            RETURN;
        END IF;
        -- No row yet in the month's first call; of two first calls one inserts, both then update.
        INSERT INTO ledger_budget (tenant_id, starts_on, limit_tokens, spent_tokens, held_tokens)
        VALUES (p_payer, p_month, p_limit, 0, 0)
        ON CONFLICT (tenant_id, starts_on) DO NOTHING;
        EXIT WHEN NOT FOUND AND round = 2;
    END LOOP;
    SELECT * INTO budget FROM ledger_budget b WHERE b.tenant_id = p_payer AND b.starts_on = p_month;
    RAISE EXCEPTION 'budget_exceeded' USING ERRCODE = 'NB402', DETAIL = jsonb_build_object(
        'limit_tokens', p_limit, 'spent_tokens', budget.spent_tokens, 'held_tokens', budget.held_tokens,
        'needed_tokens', p_hold,
        'resets_at', to_char((p_month + interval '1 month') AT TIME ZONE p_zone AT TIME ZONE 'UTC',
                             'YYYY-MM-DD"T"HH24:MI:SS"Z"'))::text;
END $$;

-- Moves a budget when a hold ends: the hold goes out, what was spent comes in.
CREATE FUNCTION ledger_move(p_payer uuid, p_day date, p_released bigint, p_spent bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_released = 0 AND p_spent = 0 THEN
        RETURN;
    END IF;
    INSERT INTO ledger_budget AS b (tenant_id, starts_on, spent_tokens, held_tokens)
    VALUES (p_payer, date_trunc('month', p_day)::date, p_spent, 0)
    ON CONFLICT (tenant_id, starts_on) DO UPDATE
       SET held_tokens = b.held_tokens - p_released, spent_tokens = b.spent_tokens + excluded.spent_tokens;
END $$;

-- Adds one entry to its day's and its month's row.
CREATE FUNCTION ledger_count(e ledger_entry) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    nobody CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
    INSERT INTO ledger_usagedaily AS u (
        payer_tenant_id, day, owner_tenant_id, tenant_id, provider, model, agent_id, collection_id, operation,
        token_type, token_source, billable, fresh_input_tokens, cached_input_tokens, cache_write_tokens,
        plain_output_tokens, reasoning_tokens, total_tokens, cost_usd, entries)
    VALUES (
        e.payer_tenant_id, e.day, e.owner_tenant_id, e.tenant_id, e.provider, e.model, coalesce(e.agent_id, nobody),
        coalesce(e.collection_id, nobody), e.operation, e.token_type, e.token_source, e.billable, e.fresh_input_tokens,
        e.cached_input_tokens, e.cache_write_tokens, e.plain_output_tokens, e.reasoning_tokens, e.total_tokens,
        coalesce(e.cost_usd, 0), 1)
    ON CONFLICT (payer_tenant_id, day, owner_tenant_id, tenant_id, provider, model, agent_id, collection_id, operation,
                 token_type, token_source, billable) DO UPDATE
       SET fresh_input_tokens = u.fresh_input_tokens + excluded.fresh_input_tokens,
           cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
           cache_write_tokens = u.cache_write_tokens + excluded.cache_write_tokens,
           plain_output_tokens = u.plain_output_tokens + excluded.plain_output_tokens,
           reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
           total_tokens = u.total_tokens + excluded.total_tokens,
           cost_usd = u.cost_usd + excluded.cost_usd,
           entries = u.entries + 1;
    INSERT INTO ledger_usagemonthly AS u (
        payer_tenant_id, month, owner_tenant_id, tenant_id, provider, model, agent_id, collection_id, operation,
        token_type, token_source, billable, fresh_input_tokens, cached_input_tokens, cache_write_tokens,
        plain_output_tokens, reasoning_tokens, total_tokens, cost_usd, entries)
    VALUES (
        e.payer_tenant_id, date_trunc('month', e.day)::date, e.owner_tenant_id, e.tenant_id, e.provider, e.model,
        coalesce(e.agent_id, nobody), coalesce(e.collection_id, nobody), e.operation, e.token_type, e.token_source,
        e.billable, e.fresh_input_tokens, e.cached_input_tokens, e.cache_write_tokens, e.plain_output_tokens,
        e.reasoning_tokens, e.total_tokens, coalesce(e.cost_usd, 0), 1)
    ON CONFLICT (payer_tenant_id, month, owner_tenant_id, tenant_id, provider, model, agent_id, collection_id, operation,
                 token_type, token_source, billable) DO UPDATE
       SET fresh_input_tokens = u.fresh_input_tokens + excluded.fresh_input_tokens,
           cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
           cache_write_tokens = u.cache_write_tokens + excluded.cache_write_tokens,
           plain_output_tokens = u.plain_output_tokens + excluded.plain_output_tokens,
           reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
           total_tokens = u.total_tokens + excluded.total_tokens,
           cost_usd = u.cost_usd + excluded.cost_usd,
           entries = u.entries + 1;
END $$;

-- Finds or makes the operation, takes or keeps its lease, writes the attempt and takes the hold.
--   done        it has its result: no call
--   ended       it failed or was cancelled
--   busy        another worker's lease is alive
--   unresolved  taken over from a dead worker whose attempts the provider can be asked about: ask, then hold again
--   admitted    the call may be made
-- p_epoch is 0 for a new delivery, or the epoch of the lease the caller holds already (a retry of its own).
CREATE FUNCTION ledger_hold(
    p_consumer uuid, p_owner uuid, p_payer uuid,
    p_operation_id uuid, p_key text, p_payload_hash text, p_token_type text, p_operation text, p_billable boolean,
    p_agent_id uuid, p_collection_id uuid, p_document_id uuid, p_conversation_id uuid, p_run_id uuid, p_context_id uuid,
    p_metadata jsonb, p_epoch integer, p_can_ask boolean,
    p_attempt_id uuid, p_provider text, p_model text, p_model_family text, p_hold bigint, p_deadline interval, p_lease interval
) RETURNS ledger_held LANGUAGE plpgsql AS $$
DECLARE
    op ledger_operation;
    held ledger_held;
    v_zone text;
    v_limit bigint;
    v_hard boolean;
    v_day date;
    v_hold bigint := CASE WHEN p_billable THEN p_hold ELSE 0 END;
BEGIN
    PERFORM ledger_open_scope(p_consumer, p_owner, p_payer);
    INSERT INTO ledger_operation (
        id, tenant_id, owner_tenant_id, payer_tenant_id, idempotency_key, payload_hash, token_type, operation, billable,
        state, agent_id, collection_id, document_id, conversation_id, run_id, context_id, metadata, lease_epoch,
        lease_expires_at, error_code, error_detail)
    VALUES (
        p_operation_id, p_consumer, p_owner, p_payer, p_key, p_payload_hash, p_token_type, p_operation, p_billable,
        'pending', p_agent_id, p_collection_id, p_document_id, p_conversation_id, p_run_id, p_context_id, p_metadata, 1,
        clock_timestamp() + p_lease, '', '')
    ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
    RETURNING * INTO op;
    IF op.id IS NULL THEN
        -- A statement of its own, so that it sees the row of a concurrent winner; the lock waits for the winner's commit.
        SELECT * INTO STRICT op FROM ledger_operation o
         WHERE o.tenant_id = p_consumer AND o.idempotency_key = p_key FOR NO KEY UPDATE;
        held.operation_id := op.id;
        held.epoch := op.lease_epoch;
        held.operation_created_at := op.created_at;
        IF op.payload_hash <> p_payload_hash THEN
            RAISE EXCEPTION 'idempotency_conflict' USING ERRCODE = 'NB409', DETAIL = op.id::text;
        END IF;
        IF op.state = 'done' THEN
            SELECT 'done', a.fresh_input_tokens, a.cached_input_tokens, a.cache_write_tokens, a.plain_output_tokens,
                   a.reasoning_tokens, a.token_source
              INTO held.outcome, held.fresh_input_tokens, held.cached_input_tokens, held.cache_write_tokens,
                   held.plain_output_tokens, held.reasoning_tokens, held.token_source
              FROM ledger_attempt a WHERE a.operation_id = op.id AND a.state = 'settled';
            held.outcome := 'done';
            held.result := op.result;
            RETURN held;
        END IF;
        IF op.state <> 'pending' THEN
            held.outcome := 'ended';
            held.error_code := op.error_code;
            held.error_detail := op.error_detail;
            RETURN held;
        END IF;
        IF op.lease_epoch <> p_epoch AND op.lease_expires_at > clock_timestamp() THEN
            held.outcome := 'busy';
            RETURN held;
        END IF;
        -- Whatever was open belongs to a worker that is gone, or to a call of ours that was not closed: proof of nothing.
        UPDATE ledger_attempt a SET state = 'unknown', error_code = 'worker_lost'
         WHERE a.operation_id = op.id AND a.state = 'open';
        UPDATE ledger_operation o
           SET lease_epoch = o.lease_epoch + (o.lease_epoch <> p_epoch)::integer,
               lease_expires_at = clock_timestamp() + p_lease
         WHERE o.id = op.id
        RETURNING * INTO op;
        IF p_can_ask AND op.lease_epoch <> p_epoch THEN
            SELECT array_agg(a.id ORDER BY a.number) INTO held.attempt_ids
              FROM ledger_attempt a WHERE a.operation_id = op.id AND a.state = 'unknown';
            IF held.attempt_ids IS NOT NULL THEN
                held.outcome := 'unresolved';
                held.epoch := op.lease_epoch;
                RETURN held;
            END IF;
        END IF;
    END IF;

    SELECT t.time_zone, coalesce(t.monthly_token_limit, tier.monthly_token_limit), t.hard_limit
      INTO STRICT v_zone, v_limit, v_hard
      FROM tenants_tenant t JOIN tenants_tier tier ON tier.name = t.tier_id
     WHERE t.id = p_payer;
    v_day := (clock_timestamp() AT TIME ZONE v_zone)::date;
    INSERT INTO ledger_attempt (
        id, tenant_id, owner_tenant_id, payer_tenant_id, operation_id, number, epoch, state, provider, model,
        model_family, hold_tokens, day, deadline, token_source, overage_tokens, provider_request_id, error_code, error_detail,
        fresh_input_tokens, cached_input_tokens, cache_write_tokens, plain_output_tokens, reasoning_tokens)
    SELECT p_attempt_id, p_consumer, p_owner, p_payer, op.id, count(*) + 1, op.lease_epoch, 'open', p_provider, p_model,
           p_model_family, v_hold, v_day, clock_timestamp() + p_deadline, '', 0, '', '', '', 0, 0, 0, 0, 0
      FROM ledger_attempt a WHERE a.operation_id = op.id;
    IF v_hold > 0 THEN
        PERFORM ledger_take(p_payer, date_trunc('month', v_day)::date, v_hold, v_limit, v_hard, v_zone);
    END IF;
    held.outcome := 'admitted';
    held.operation_id := op.id;
    held.epoch := op.lease_epoch;
    held.operation_created_at := op.created_at;
    RETURN held;
END $$;

-- Closes an attempt with the usage of its call. The first settled attempt of an operation makes its entry; the usage of
-- any other is leakage, recorded on the attempt as lost. Settling twice is settling once: a lost COMMIT reply is repeated.
CREATE FUNCTION ledger_settle(
    p_consumer uuid, p_owner uuid, p_payer uuid,
    p_attempt_id uuid, p_entry_id uuid,
    p_fresh_input bigint, p_cached_input bigint, p_cache_write bigint, p_plain_output bigint, p_reasoning bigint,
    p_token_source text, p_provider_request_id text, p_raw_usage jsonb, p_result jsonb, p_metadata jsonb
) RETURNS ledger_settlement LANGUAGE plpgsql AS $$
DECLARE
    op ledger_operation;
    att ledger_attempt;
    e ledger_entry;
    settlement ledger_settlement;
    v_total CONSTANT bigint := p_fresh_input + p_cached_input + p_cache_write + p_plain_output + p_reasoning;
BEGIN
    PERFORM ledger_open_scope(p_consumer, p_owner, p_payer);
    SELECT o.* INTO op FROM ledger_operation o
     WHERE o.id = (SELECT a.operation_id FROM ledger_attempt a WHERE a.id = p_attempt_id) FOR NO KEY UPDATE;
    IF op.id IS NULL THEN
        RAISE EXCEPTION 'no such attempt' USING ERRCODE = 'NB404';
    END IF;
    IF op.state <> 'pending' THEN
        -- Only an unknown attempt can become lost: an open one passes through unknown.
        UPDATE ledger_attempt a SET state = 'unknown' WHERE a.id = p_attempt_id AND a.state = 'open';
    END IF;
    UPDATE ledger_attempt a
       SET state = CASE WHEN op.state = 'pending' THEN 'settled' ELSE 'lost' END,
           fresh_input_tokens = p_fresh_input, cached_input_tokens = p_cached_input, cache_write_tokens = p_cache_write,
           plain_output_tokens = p_plain_output, reasoning_tokens = p_reasoning, token_source = p_token_source,
           provider_request_id = p_provider_request_id, raw_usage = p_raw_usage, error_code = '', error_detail = '',
           overage_tokens = CASE WHEN op.billable THEN greatest(v_total - a.hold_tokens, 0) ELSE 0 END,
           closed_at = clock_timestamp()
     WHERE a.id = p_attempt_id AND a.state IN ('open', 'unknown')
    RETURNING * INTO att;
    settlement.operation_id := op.id;
    settlement.state := op.state;
    settlement.result := op.result;
    settlement.fresh_input_tokens := p_fresh_input;
    settlement.cached_input_tokens := p_cached_input;
    settlement.cache_write_tokens := p_cache_write;
    settlement.plain_output_tokens := p_plain_output;
    settlement.reasoning_tokens := p_reasoning;
    settlement.token_source := p_token_source;
    IF att.id IS NULL THEN
        PERFORM FROM ledger_attempt a WHERE a.id = p_attempt_id AND a.state IN ('settled', 'lost');
        IF NOT FOUND THEN
            RAISE EXCEPTION 'attempt_closed' USING ERRCODE = 'NB410';
        END IF;
        settlement.outcome := 'repeated';
        RETURN settlement;
    END IF;
    IF att.state = 'lost' THEN
        PERFORM ledger_move(p_payer, att.day, att.hold_tokens, 0);
        settlement.outcome := 'late';
        RETURN settlement;
    END IF;

    UPDATE ledger_operation o
       SET state = 'done', result = p_result, lease_expires_at = NULL, finished_at = clock_timestamp()
     WHERE o.id = op.id;
    INSERT INTO ledger_entry (
        id, tenant_id, owner_tenant_id, payer_tenant_id, kind, idempotency_key, payload_hash, operation_id, attempt_id,
        token_type, operation, provider, model, model_family, fresh_input_tokens, cached_input_tokens, cache_write_tokens,
        plain_output_tokens, reasoning_tokens, total_tokens, token_source, billable, day, agent_id, collection_id,
        document_id, conversation_id, run_id, context_id, provider_request_id, attempts, occurred_at, metadata)
    VALUES (
        p_entry_id, p_consumer, p_owner, p_payer, 'usage', op.idempotency_key, op.payload_hash, op.id, att.id,
        op.token_type, op.operation, att.provider, att.model, att.model_family, p_fresh_input, p_cached_input, p_cache_write,
        p_plain_output, p_reasoning, v_total, p_token_source, op.billable, att.day, op.agent_id, op.collection_id,
        op.document_id, op.conversation_id, op.run_id, op.context_id, p_provider_request_id, att.number, att.opened_at,
        op.metadata || p_metadata)
    RETURNING * INTO e;
    PERFORM ledger_count(e);
    PERFORM ledger_move(p_payer, att.day, att.hold_tokens, CASE WHEN op.billable THEN v_total ELSE 0 END);
    settlement.outcome := 'settled';
    settlement.state := 'done';
    settlement.result := p_result;
    RETURN settlement;
END $$;

-- Closes an attempt without usage. 'void' only on proof that the provider did not count it: the hold goes out.
-- 'unknown' keeps the hold. Returns whether the attempt changed.
CREATE FUNCTION ledger_close(
    p_consumer uuid, p_owner uuid, p_payer uuid,
    p_attempt_id uuid, p_state text, p_error_code text, p_error_detail text, p_provider_request_id text
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    att ledger_attempt;
BEGIN
    PERFORM ledger_open_scope(p_consumer, p_owner, p_payer);
    PERFORM FROM ledger_operation o
      WHERE o.id = (SELECT a.operation_id FROM ledger_attempt a WHERE a.id = p_attempt_id) FOR NO KEY UPDATE;
    UPDATE ledger_attempt a
       SET state = p_state, error_code = p_error_code, error_detail = p_error_detail,
           provider_request_id = p_provider_request_id,
           closed_at = CASE WHEN p_state = 'void' THEN clock_timestamp() END
     WHERE a.id = p_attempt_id AND (a.state = 'open' OR (a.state = 'unknown' AND p_state = 'void'))
    RETURNING * INTO att;
    IF att.id IS NULL THEN
        RETURN false;
    END IF;
    IF p_state = 'void' THEN
        PERFORM ledger_move(p_payer, att.day, att.hold_tokens, 0);
    END IF;
    RETURN true;
END $$;

-- Ends an operation without a result, under the epoch of its holder. What is still open becomes unknown: the operation's
-- end proves nothing about a call. Returns whether it ended now.
CREATE FUNCTION ledger_fail(
    p_consumer uuid, p_owner uuid, p_payer uuid, p_operation_id uuid, p_epoch integer, p_error_code text, p_error_detail text
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_failed uuid;
BEGIN
    PERFORM ledger_open_scope(p_consumer, p_owner, p_payer);
    UPDATE ledger_operation o
       SET state = 'failed', error_code = p_error_code, error_detail = p_error_detail, lease_expires_at = NULL,
           finished_at = clock_timestamp()
     WHERE o.id = p_operation_id AND o.state = 'pending' AND o.lease_epoch = p_epoch
    RETURNING o.id INTO v_failed;
    IF v_failed IS NULL THEN
        RETURN false;
    END IF;
    UPDATE ledger_attempt a SET state = 'unknown' WHERE a.operation_id = p_operation_id AND a.state = 'open';
    RETURN true;
END $$;

-- Books usage that no call of the till made. outcome: created | duplicate (entry_id is the first one's) | conflict.
CREATE FUNCTION ledger_record(
    p_consumer uuid, p_owner uuid, p_payer uuid,
    p_entry_id uuid, p_key text, p_payload_hash text, p_token_type text, p_operation text, p_billable boolean,
    p_provider text, p_model text, p_model_family text,
    p_fresh_input bigint, p_cached_input bigint, p_cache_write bigint, p_plain_output bigint, p_reasoning bigint,
    p_token_source text, p_occurred_at timestamptz,
    p_agent_id uuid, p_collection_id uuid, p_document_id uuid, p_conversation_id uuid, p_run_id uuid, p_context_id uuid,
    p_metadata jsonb, OUT outcome text, OUT entry_id uuid
) LANGUAGE plpgsql AS $$
DECLARE
    e ledger_entry;
    v_zone text;
    v_total CONSTANT bigint := p_fresh_input + p_cached_input + p_cache_write + p_plain_output + p_reasoning;
BEGIN
    PERFORM ledger_open_scope(p_consumer, p_owner, p_payer);
    SELECT t.time_zone INTO STRICT v_zone FROM tenants_tenant t WHERE t.id = p_payer;
    INSERT INTO ledger_entry (
        id, tenant_id, owner_tenant_id, payer_tenant_id, kind, idempotency_key, payload_hash, token_type, operation,
        provider, model, model_family, fresh_input_tokens, cached_input_tokens, cache_write_tokens, plain_output_tokens,
        reasoning_tokens, total_tokens, token_source, billable, day, agent_id, collection_id, document_id,
        conversation_id, run_id, context_id, provider_request_id, attempts, occurred_at, metadata)
    VALUES (
        p_entry_id, p_consumer, p_owner, p_payer, 'usage', p_key, p_payload_hash, p_token_type, p_operation,
        p_provider, p_model, p_model_family, p_fresh_input, p_cached_input, p_cache_write, p_plain_output, p_reasoning, v_total,
        p_token_source, p_billable, (p_occurred_at AT TIME ZONE v_zone)::date, p_agent_id, p_collection_id,
        p_document_id, p_conversation_id, p_run_id, p_context_id, '', 0, p_occurred_at, p_metadata)
    ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
    RETURNING * INTO e;
    IF e.id IS NULL THEN
        SELECT * INTO STRICT e FROM ledger_entry x WHERE x.tenant_id = p_consumer AND x.idempotency_key = p_key;
        entry_id := e.id;
        outcome := CASE WHEN e.payload_hash = p_payload_hash THEN 'duplicate' ELSE 'conflict' END;
        RETURN;
    END IF;
    PERFORM ledger_count(e);
    PERFORM ledger_move(p_payer, e.day, 0, CASE WHEN p_billable THEN v_total ELSE 0 END);
    entry_id := e.id;
    outcome := 'created';
END $$;
