-- The till: hold, settle, close, end. Each is one round trip and one transaction of its own, or a statement in the
-- caller's. Locks are as in books.sql. An operation is touched for the three parties it belongs to and for no others.

CREATE TYPE ledger_held AS (
    outcome text,            -- admitted | done | busy | ended | unresolved | conflict
    operation_id uuid,
    epoch integer,
    operation_created_at timestamptz,
    result jsonb,
    attempts jsonb,          -- of unresolved: id, provider and model of each, the earliest first
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
    outcome text,            -- settled | late | corrected | repeated | contradicted
    operation_id uuid,
    state text,
    overage_tokens bigint,
    result jsonb             -- what the operation ended with, where that is not what the caller brings
);

-- Finds or makes the operation, takes or keeps its lease, writes the attempt and takes the hold.
--   done        it has its result: no call
--   ended       it failed or was cancelled
--   busy        another worker's lease is alive
--   unresolved  taken over from a worker that left attempts which nobody knows the outcome of: ask, then hold again
--   conflict    the key belongs to other content: refused, and noted
--   admitted    the call may be made
-- p_epoch is 0 for a new delivery, or the epoch of the lease the caller holds already (a retry of its own).
CREATE FUNCTION ledger_hold(
    p_consumer uuid, p_owner uuid, p_payer uuid,
    p_operation_id uuid, p_key text, p_payload_hash text, p_token_type text, p_operation text, p_billable boolean,
    p_agent_id uuid, p_collection_id uuid, p_document_id uuid, p_conversation_id uuid, p_run_id uuid, p_context_id uuid,
    p_metadata jsonb, p_epoch integer,
    p_attempt_id uuid, p_provider text, p_model text, p_model_family text, p_hold bigint, p_deadline interval, p_lease interval
) RETURNS ledger_held LANGUAGE plpgsql AS $$
DECLARE
    held ledger_held;
    v_number smallint := 1;
    v_hold CONSTANT bigint := CASE WHEN p_billable THEN p_hold ELSE 0 END;
    v_day date;
BEGIN
    INSERT INTO ledger_operation (
        id, tenant_id, owner_tenant_id, payer_tenant_id, idempotency_key, payload_hash, token_type, operation, billable,
        state, agent_id, collection_id, document_id, conversation_id, run_id, context_id, metadata, lease_epoch,
        lease_expires_at, error_code, error_detail)
    VALUES (
        p_operation_id, p_consumer, p_owner, p_payer, p_key, p_payload_hash, p_token_type, p_operation, p_billable,
        'pending', p_agent_id, p_collection_id, p_document_id, p_conversation_id, p_run_id, p_context_id, p_metadata, 1,
        clock_timestamp() + p_lease, '', '')
    ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
    RETURNING 'admitted', id, lease_epoch, created_at
         INTO held.outcome, held.operation_id, held.epoch, held.operation_created_at;
    IF held.operation_id IS NULL THEN
        held := ledger_hold_again(p_consumer, p_owner, p_payer, p_key, p_payload_hash, p_epoch, p_lease);
        IF held.outcome <> 'admitted' THEN
            RETURN held;
        END IF;
        SELECT count(*) + 1 INTO v_number FROM ledger_attempt a WHERE a.operation_id = held.operation_id;
    END IF;
    INSERT INTO ledger_attempt (
        id, tenant_id, owner_tenant_id, payer_tenant_id, operation_id, number, epoch, state, provider, model,
        model_family, hold_tokens, held_tokens, day, deadline, token_source, overage_tokens, provider_request_id,
        error_code, error_detail, fresh_input_tokens, cached_input_tokens, cache_write_tokens, plain_output_tokens,
        reasoning_tokens)
    SELECT p_attempt_id, p_consumer, p_owner, p_payer, held.operation_id, v_number, held.epoch, 'open', p_provider,
           p_model, p_model_family, v_hold, v_hold, terms.today, clock_timestamp() + p_deadline, '', 0, '', '', '', 0, 0,
           0, 0, 0
      FROM ledger_terms terms WHERE terms.payer_tenant_id = p_payer
    RETURNING day INTO STRICT v_day;
    IF v_hold > 0 AND NOT ledger_take(p_payer, v_day, v_hold) THEN
        PERFORM ledger_refuse(p_payer, v_day, v_hold);
    END IF;
    RETURN held;
END $$;

-- What ledger_hold does where the operation is there already. 'admitted': it is pending, and the caller's from now on.
CREATE FUNCTION ledger_hold_again(
    p_consumer uuid, p_owner uuid, p_payer uuid, p_key text, p_payload_hash text, p_epoch integer, p_lease interval
) RETURNS ledger_held LANGUAGE plpgsql AS $$
DECLARE
    op ledger_operation;
    held ledger_held;
BEGIN
    -- A statement of its own, so that it sees the row of a concurrent winner; the lock waits for the winner's commit.
    SELECT * INTO STRICT op FROM ledger_operation o
     WHERE o.tenant_id = p_consumer AND o.idempotency_key = p_key FOR NO KEY UPDATE;
    held.operation_id := op.id;
    held.epoch := op.lease_epoch;
    held.operation_created_at := op.created_at;
    IF op.payload_hash <> p_payload_hash OR (op.owner_tenant_id, op.payer_tenant_id) <> (p_owner, p_payer) THEN
        PERFORM ledger_note(op.payer_tenant_id, 'idempotency_conflict', 'operation ' || op.id, 0, jsonb_build_object(
            'operation_id', op.id, 'idempotency_key', p_key, 'payload_hash', op.payload_hash,
            'other_payload_hash', p_payload_hash));
        held.outcome := 'conflict';
    ELSIF op.state = 'done' THEN
        SELECT a.fresh_input_tokens, a.cached_input_tokens, a.cache_write_tokens, a.plain_output_tokens,
               a.reasoning_tokens, a.token_source
          INTO held.fresh_input_tokens, held.cached_input_tokens, held.cache_write_tokens, held.plain_output_tokens,
               held.reasoning_tokens, held.token_source
          FROM ledger_attempt a
         WHERE a.operation_id = op.id AND (a.state = 'settled' OR a.estimate_entry_id IS NOT NULL);
        held.outcome := 'done';
        held.result := op.result;
    ELSIF op.state <> 'pending' THEN
        held.outcome := 'ended';
        held.error_code := op.error_code;
        held.error_detail := op.error_detail;
    ELSIF op.lease_epoch <> p_epoch AND op.lease_expires_at > clock_timestamp() THEN
        held.outcome := 'busy';
    ELSE
        -- Whatever was open belongs to a worker that is gone, or to a call of ours that was not closed: proof of nothing.
        UPDATE ledger_attempt a SET state = 'unknown', error_code = 'worker_lost'
         WHERE a.operation_id = op.id AND a.state = 'open';
        UPDATE ledger_operation o
           SET lease_epoch = o.lease_epoch + (o.lease_epoch <> p_epoch)::integer,
               lease_expires_at = clock_timestamp() + p_lease
         WHERE o.id = op.id
        RETURNING o.lease_epoch INTO held.epoch;
        IF held.epoch <> p_epoch THEN
            SELECT jsonb_agg(jsonb_build_object('id', a.id, 'provider', a.provider, 'model', a.model) ORDER BY a.number)
              INTO held.attempts
              FROM ledger_attempt a WHERE a.operation_id = op.id AND a.state = 'unknown';
        END IF;
        held.outcome := CASE WHEN held.attempts IS NULL THEN 'admitted' ELSE 'unresolved' END;
    END IF;
    RETURN held;
END $$;

-- Writes the usage entry of an operation from the attempt that ended it. Statistics and budget are the caller's.
-- The operation is locked and was pending, so an entry that has its key is none of ours: somebody reported usage under
-- it. That must not keep the call from being booked.
CREATE FUNCTION ledger_enter(p_attempt_id uuid, p_entry_id uuid, p_metadata jsonb, p_key_suffix text DEFAULT '')
RETURNS ledger_entry LANGUAGE plpgsql AS $$
DECLARE
    e ledger_entry;
    v_operation record;
BEGIN
    INSERT INTO ledger_entry (
        id, tenant_id, owner_tenant_id, payer_tenant_id, kind, idempotency_key, payload_hash, operation_id, attempt_id,
        token_type, operation, provider, model, model_family, fresh_input_tokens, cached_input_tokens, cache_write_tokens,
        plain_output_tokens, reasoning_tokens, total_tokens, token_source, billable, cost_usd, price_id, reason, actor,
        day, agent_id, collection_id, document_id, conversation_id, run_id, context_id, provider_request_id, attempts,
        occurred_at, metadata)
    SELECT p_entry_id, o.tenant_id, o.owner_tenant_id, o.payer_tenant_id, 'usage', o.idempotency_key || p_key_suffix,
           o.payload_hash, o.id, a.id, o.token_type, o.operation, a.provider, a.model, a.model_family,
           a.fresh_input_tokens, a.cached_input_tokens, a.cache_write_tokens, a.plain_output_tokens, a.reasoning_tokens,
           a.fresh_input_tokens + a.cached_input_tokens + a.cache_write_tokens + a.plain_output_tokens
           + a.reasoning_tokens, a.token_source, o.billable,
           ledger_cost(a.fresh_input_tokens, p.fresh_input_usd, a.cached_input_tokens, p.cached_input_usd,
                       a.cache_write_tokens, p.cache_write_usd, a.plain_output_tokens, p.plain_output_usd,
                       a.reasoning_tokens, p.reasoning_usd),
           p.id, '', '', a.day, o.agent_id, o.collection_id, o.document_id, o.conversation_id, o.run_id, o.context_id,
           a.provider_request_id, a.number, a.opened_at,
           o.metadata || p_metadata || jsonb_build_object('operation_id', o.id)
      FROM ledger_attempt a JOIN ledger_operation o ON o.id = a.operation_id
      LEFT JOIN LATERAL ledger_price_of(a.payer_tenant_id, a.provider, a.model, a.opened_at) p ON true
     WHERE a.id = p_attempt_id
    ON CONFLICT (tenant_id, idempotency_key) DO NOTHING
    RETURNING * INTO e;
    IF FOUND THEN
        RETURN e;
    END IF;
    SELECT o.id, o.payer_tenant_id, o.idempotency_key INTO STRICT v_operation
      FROM ledger_operation o JOIN ledger_attempt a ON a.operation_id = o.id WHERE a.id = p_attempt_id;
    PERFORM ledger_note(
        v_operation.payer_tenant_id, 'idempotency_conflict', 'operation ' || v_operation.id, 0, jsonb_build_object(
        'operation_id', v_operation.id, 'idempotency_key', v_operation.idempotency_key, 'note', 'an event has the key'));
    IF p_key_suffix <> '' THEN
        RAISE EXCEPTION 'operation % has an entry already', v_operation.id;
    END IF;
    RETURN ledger_enter(p_attempt_id, p_entry_id, p_metadata, '#' || v_operation.id);
END $$;

-- Writes the entry again that a done operation has lost, from its settled attempt. By reconciliation, which then compares
-- the sums.
CREATE FUNCTION ledger_enter_again(p_attempt_id uuid, p_entry_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM ledger_operation o JOIN ledger_attempt a ON a.operation_id = o.id
      WHERE a.id = p_attempt_id FOR NO KEY UPDATE OF o;
    IF EXISTS (SELECT FROM ledger_entry e JOIN ledger_attempt a ON a.operation_id = e.operation_id
                WHERE a.id = p_attempt_id AND e.kind = 'usage') THEN
        RETURN;
    END IF;
    PERFORM ledger_enter(p_attempt_id, p_entry_id, '{"resolved_by": "reconciliation"}');
END $$;

-- Locks the operation of an attempt, which must be these parties'.
CREATE FUNCTION ledger_lock_operation_of(p_consumer uuid, p_owner uuid, p_payer uuid, p_attempt_id uuid)
RETURNS ledger_operation LANGUAGE plpgsql AS $$
DECLARE
    op ledger_operation;
BEGIN
    SELECT o.* INTO op FROM ledger_operation o
     WHERE o.id = (SELECT a.operation_id FROM ledger_attempt a WHERE a.id = p_attempt_id)
       AND o.tenant_id = p_consumer AND o.owner_tenant_id = p_owner AND o.payer_tenant_id = p_payer
       FOR NO KEY UPDATE;
    IF op.id IS NULL THEN
        RAISE EXCEPTION 'no such attempt' USING ERRCODE = 'NB404';
    END IF;
    RETURN op;
END $$;

-- An answer that comes after somebody else has taken its operation over ends it under that one's hands: the call that is
-- open now proves nothing any more, and is counted late when its answer comes.
CREATE FUNCTION ledger_doubt_others(p_operation_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ledger_attempt a SET state = 'unknown', error_code = 'overtaken'
     WHERE a.operation_id = p_operation_id AND a.state = 'open';
END $$;

-- What the provider counted for an attempt whose operation it can no longer settle. Where an entry was written at an
-- estimate, an adjustment makes it true and the attempt is settled. Where another attempt settled, or the operation
-- ended without a result, the usage is leakage: recorded on the attempt, billed to nobody. An attempt that was given up
-- stays lost, with its truth. Of one whose hold went out on proof, the proof was wrong: somebody must look.
CREATE FUNCTION ledger_count_late(
    op ledger_operation, p_attempt_id uuid, p_adjustment_id uuid, p_counts ledger_counts, p_provider_request_id text,
    p_raw_usage jsonb
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    att ledger_attempt;
    v_total CONSTANT bigint := ledger_sum(p_counts);
    v_state text;
BEGIN
    SELECT a.* INTO STRICT att FROM ledger_attempt a WHERE a.id = p_attempt_id;
    IF att.state = 'settled' OR att.state = 'lost' AND (att.token_source = 'api' OR p_counts.token_source <> 'api') THEN
        RETURN 'repeated';
    ELSIF att.state = 'void' THEN
        PERFORM ledger_note(op.payer_tenant_id, 'counted_void', 'attempt ' || att.id, v_total, jsonb_build_object(
            'operation_id', op.id, 'total_tokens', v_total, 'provider_request_id', p_provider_request_id,
            'raw_usage', p_raw_usage));
        RETURN 'contradicted';
    ELSIF att.state = 'lost' AND EXISTS (
        SELECT FROM ledger_discrepancy d
         WHERE d.tenant_id = op.payer_tenant_id AND d.kind = 'lost_attempt' AND d.subject = 'attempt ' || att.id) THEN
        -- It had been given up.
        PERFORM ledger_note(op.payer_tenant_id, 'lost_attempt', 'attempt ' || att.id, v_total, jsonb_build_object(
            'operation_id', op.id, 'provider', att.provider, 'model', att.model, 'total_tokens', v_total,
            'provider_request_id', p_provider_request_id));
    ELSIF att.state = 'open' THEN
        -- Only an unknown attempt can become lost.
        UPDATE ledger_attempt a SET state = 'unknown' WHERE a.id = att.id;
    END IF;
    v_state := CASE WHEN att.state = 'lost' OR att.estimate_entry_id IS NULL THEN 'lost' ELSE 'settled' END;
    UPDATE ledger_attempt a
       SET state = v_state, held_tokens = 0,
           fresh_input_tokens = p_counts.fresh_input_tokens, cached_input_tokens = p_counts.cached_input_tokens,
           cache_write_tokens = p_counts.cache_write_tokens, plain_output_tokens = p_counts.plain_output_tokens,
           reasoning_tokens = p_counts.reasoning_tokens, token_source = p_counts.token_source,
           provider_request_id = p_provider_request_id, raw_usage = p_raw_usage,
           -- A lost one says why it was in doubt.
           error_code = CASE WHEN v_state = 'lost' THEN a.error_code ELSE '' END,
           error_detail = CASE WHEN v_state = 'lost' THEN a.error_detail ELSE '' END,
           overage_tokens = CASE WHEN op.billable THEN greatest(v_total - att.hold_tokens, 0) ELSE 0 END,
           closed_at = clock_timestamp()
     WHERE a.id = att.id;
    IF att.estimate_entry_id IS NOT NULL THEN
        PERFORM ledger_correct_to(p_adjustment_id, att.estimate_entry_id, att.id, p_counts,
                                  'The provider told what it had counted.');
    END IF;
    PERFORM ledger_move(op.payer_tenant_id, att.day, att.held_tokens, 0);
    IF op.billable AND v_total > att.hold_tokens THEN
        PERFORM ledger_note(
            op.payer_tenant_id, 'overage', 'attempt ' || att.id, v_total - att.hold_tokens, jsonb_build_object(
            'operation_id', op.id, 'hold_tokens', att.hold_tokens, 'total_tokens', v_total, 'raw_usage', p_raw_usage));
    END IF;
    RETURN CASE WHEN att.estimate_entry_id IS NULL THEN 'late' ELSE 'corrected' END;
END $$;

-- Closes an attempt with the usage of its call. The first settled attempt of an operation makes its entry; what another
-- one cost is counted late. Settling twice is settling once: a lost COMMIT reply is repeated.
CREATE FUNCTION ledger_settle(
    p_consumer uuid, p_owner uuid, p_payer uuid, p_attempt_id uuid, p_entry_id uuid, p_counts ledger_counts,
    p_provider_request_id text, p_raw_usage jsonb, p_result jsonb, p_metadata jsonb
) RETURNS ledger_settlement LANGUAGE plpgsql AS $$
DECLARE
    op record;
    att record;
    settlement ledger_settlement;
    v_total CONSTANT bigint := ledger_sum(p_counts);
    e ledger_entry;
    v_counted integer;
    v_moved boolean;
BEGIN
    -- Waits for whoever has the operation locked, and then finds it only if it is pending still. An attempt that is
    -- closed settles nothing any more.
    UPDATE ledger_operation o
       SET state = 'done', result = p_result, lease_expires_at = NULL, finished_at = clock_timestamp()
     WHERE o.id = (SELECT a.operation_id FROM ledger_attempt a
                    WHERE a.id = p_attempt_id AND a.state IN ('open', 'unknown'))
       AND o.state = 'pending'
       AND o.tenant_id = p_consumer AND o.owner_tenant_id = p_owner AND o.payer_tenant_id = p_payer
    RETURNING o.id, o.billable, o.lease_epoch INTO op;
    IF NOT FOUND THEN
        RETURN ledger_settle_late(ledger_lock_operation_of(p_consumer, p_owner, p_payer, p_attempt_id), p_attempt_id,
                                  p_entry_id, p_counts, p_provider_request_id, p_raw_usage);
    END IF;
    UPDATE ledger_attempt a
       SET state = 'settled', held_tokens = 0,
           fresh_input_tokens = p_counts.fresh_input_tokens, cached_input_tokens = p_counts.cached_input_tokens,
           cache_write_tokens = p_counts.cache_write_tokens, plain_output_tokens = p_counts.plain_output_tokens,
           reasoning_tokens = p_counts.reasoning_tokens, token_source = p_counts.token_source,
           provider_request_id = p_provider_request_id, raw_usage = p_raw_usage, error_code = '', error_detail = '',
           overage_tokens = CASE WHEN op.billable THEN greatest(v_total - a.hold_tokens, 0) ELSE 0 END,
           closed_at = clock_timestamp()
     WHERE a.id = p_attempt_id AND a.state IN ('open', 'unknown')
    RETURNING a.epoch, a.day, a.hold_tokens, a.overage_tokens INTO att;
    IF NOT FOUND THEN
        -- Closed while we waited: repeated, it is found so from the beginning.
        RAISE EXCEPTION 'attempt % was closed meanwhile', p_attempt_id USING ERRCODE = 'serialization_failure';
    END IF;
    IF att.epoch <> op.lease_epoch THEN
        PERFORM ledger_doubt_others(op.id);
    END IF;
    e := ledger_enter(p_attempt_id, p_entry_id, p_metadata);
    v_counted := ledger_count_daily(e) + ledger_count_monthly(e);
    -- A pending operation has no entry at an estimate, so all of the hold was still set aside.
    v_moved := ledger_move(p_payer, att.day, att.hold_tokens, CASE WHEN op.billable THEN v_total ELSE 0 END);
    IF att.overage_tokens > 0 THEN
        PERFORM ledger_note(p_payer, 'overage', 'attempt ' || p_attempt_id, att.overage_tokens, jsonb_build_object(
            'operation_id', op.id, 'hold_tokens', att.hold_tokens, 'total_tokens', v_total, 'raw_usage', p_raw_usage));
    END IF;
    settlement.outcome := 'settled';
    settlement.operation_id := op.id;
    settlement.state := 'done';
    settlement.overage_tokens := att.overage_tokens;
    RETURN settlement;
END $$;

-- What ledger_settle does where the operation has ended, or the attempt was closed, already.
CREATE FUNCTION ledger_settle_late(
    op ledger_operation, p_attempt_id uuid, p_entry_id uuid, p_counts ledger_counts, p_provider_request_id text,
    p_raw_usage jsonb
) RETURNS ledger_settlement LANGUAGE plpgsql AS $$
DECLARE
    settlement ledger_settlement;
BEGIN
    settlement.outcome := ledger_count_late(op, p_attempt_id, p_entry_id, p_counts, p_provider_request_id, p_raw_usage);
    settlement.operation_id := op.id;
    settlement.state := op.state;
    settlement.overage_tokens := 0;
    settlement.result := op.result;
    RETURN settlement;
END $$;

-- Ends an operation with what was received before its call broke off: 'done' with the partial answer, or 'cancelled'.
-- The entry is written at the estimate of what was consumed; that part of the hold becomes spent. The attempt stays
-- unknown with the rest of its hold until the truth is known. Returns whether the operation ended now.
CREATE FUNCTION ledger_settle_partly(
    p_consumer uuid, p_owner uuid, p_payer uuid, p_attempt_id uuid, p_entry_id uuid, p_state text, p_counts ledger_counts,
    p_provider_request_id text, p_result jsonb, p_metadata jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    op ledger_operation;
    att ledger_attempt;
    v_spent bigint;
    v_released bigint;
    e ledger_entry;
    v_counted integer;
    v_moved boolean;
BEGIN
    op := ledger_lock_operation_of(p_consumer, p_owner, p_payer, p_attempt_id);
    SELECT a.* INTO STRICT att FROM ledger_attempt a WHERE a.id = p_attempt_id;
    IF op.state <> 'pending' OR att.state NOT IN ('open', 'unknown') THEN
        RETURN false;
    END IF;
    v_spent := CASE WHEN op.billable THEN ledger_sum(p_counts) ELSE 0 END;
    v_released := least(v_spent, att.held_tokens);
    UPDATE ledger_attempt a
       SET state = 'unknown', held_tokens = a.held_tokens - v_released, estimate_entry_id = p_entry_id,
           fresh_input_tokens = p_counts.fresh_input_tokens, cached_input_tokens = p_counts.cached_input_tokens,
           cache_write_tokens = p_counts.cache_write_tokens, plain_output_tokens = p_counts.plain_output_tokens,
           reasoning_tokens = p_counts.reasoning_tokens, token_source = p_counts.token_source,
           provider_request_id = p_provider_request_id
     WHERE a.id = att.id;
    UPDATE ledger_operation o
       SET state = p_state, result = p_result, lease_expires_at = NULL, finished_at = clock_timestamp()
     WHERE o.id = op.id;
    IF att.epoch <> op.lease_epoch THEN
        PERFORM ledger_doubt_others(op.id);
    END IF;
    e := ledger_enter(p_attempt_id, p_entry_id, p_metadata);
    v_counted := ledger_count_daily(e) + ledger_count_monthly(e);
    v_moved := ledger_move(p_payer, att.day, v_released, v_spent);
    RETURN true;
END $$;

-- Counts what the provider reports for an attempt, without an answer. It ends no operation.
CREATE FUNCTION ledger_report(
    p_consumer uuid, p_owner uuid, p_payer uuid, p_attempt_id uuid, p_adjustment_id uuid, p_counts ledger_counts,
    p_provider_request_id text, p_raw_usage jsonb
) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN ledger_count_late(ledger_lock_operation_of(p_consumer, p_owner, p_payer, p_attempt_id), p_attempt_id,
                             p_adjustment_id, p_counts, p_provider_request_id, p_raw_usage);
END $$;

-- Closes an attempt without usage. 'void' only on proof that the provider did not count it: the hold goes out, and what
-- was booked at an estimate is taken back. 'unknown' keeps the hold; p_counts is what was seen of it. Returns whether
-- the attempt changed.
CREATE FUNCTION ledger_close(
    p_consumer uuid, p_owner uuid, p_payer uuid, p_attempt_id uuid, p_adjustment_id uuid, p_state text, p_error_code text,
    p_error_detail text, p_provider_request_id text, p_counts ledger_counts, p_raw_usage jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_detail text;
    op ledger_operation;
    att ledger_attempt;
BEGIN
    op := ledger_lock_operation_of(p_consumer, p_owner, p_payer, p_attempt_id);
    -- A provider's message may quote the question, and a payer who did not ask it can read attempts.
    v_detail := CASE WHEN op.payer_tenant_id = op.tenant_id THEN p_error_detail ELSE '' END;
    SELECT a.* INTO STRICT att FROM ledger_attempt a WHERE a.id = p_attempt_id;
    IF NOT (att.state = 'open' OR att.state = 'unknown' AND p_state = 'void') THEN
        RETURN false;
    END IF;
    UPDATE ledger_attempt a
       SET state = p_state, error_code = p_error_code, error_detail = v_detail,
           provider_request_id = p_provider_request_id,
           held_tokens = CASE WHEN p_state = 'void' THEN 0 ELSE a.held_tokens END,
           fresh_input_tokens = p_counts.fresh_input_tokens, cached_input_tokens = p_counts.cached_input_tokens,
           cache_write_tokens = p_counts.cache_write_tokens, plain_output_tokens = p_counts.plain_output_tokens,
           reasoning_tokens = p_counts.reasoning_tokens, raw_usage = coalesce(p_raw_usage, a.raw_usage),
           token_source = CASE WHEN ledger_sum(p_counts) > 0 THEN p_counts.token_source ELSE '' END,
           closed_at = CASE WHEN p_state = 'void' THEN clock_timestamp() END
     WHERE a.id = att.id;
    IF p_state = 'void' THEN
        IF att.estimate_entry_id IS NOT NULL THEN
            PERFORM ledger_correct_to(p_adjustment_id, att.estimate_entry_id, att.id,
                                      ROW(0, 0, 0, 0, 0, 'api')::ledger_counts, 'The provider did not count the call.');
        END IF;
        PERFORM ledger_move(p_payer, att.day, att.held_tokens, 0);
    END IF;
    RETURN true;
END $$;

-- Ends an operation without a result: 'failed' under the epoch of its holder, 'cancelled' by anybody (p_epoch null).
-- What is still open becomes unknown: the operation's end proves nothing about a call. Returns whether it ended now.
CREATE FUNCTION ledger_end(
    p_consumer uuid, p_owner uuid, p_payer uuid, p_operation_id uuid, p_state text, p_epoch integer, p_error_code text,
    p_error_detail text
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ledger_operation o
       SET state = p_state, error_code = p_error_code, lease_expires_at = NULL,
           -- What a payer may spend, and how it stands with its provider, is none of a consumer's business.
           error_detail = CASE WHEN p_payer <> p_consumer AND (
                                    p_error_code LIKE 'provider\_%' OR p_error_code IN (
                                    'budget_exceeded', 'credential_unreadable', 'prompt_cut', 'unknown_model',
                                    'unsupported_dimensions'))
                               THEN '' ELSE p_error_detail END,
           finished_at = clock_timestamp()
     WHERE o.id = p_operation_id AND o.state = 'pending' AND o.lease_epoch = coalesce(p_epoch, o.lease_epoch)
       AND o.tenant_id = p_consumer AND o.owner_tenant_id = p_owner AND o.payer_tenant_id = p_payer;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE ledger_attempt a SET state = 'unknown' WHERE a.operation_id = p_operation_id AND a.state = 'open';
    RETURN true;
END $$;

-- Gives up unknown attempts whose deadline lies further back than the grace period: the one place where time alone, the
-- database's, releases a hold. An entry at an estimate stands as it is. Operations that somebody has locked are left for
-- the next round. Returns what was given up.
CREATE FUNCTION ledger_give_up(p_grace interval, p_limit integer)
RETURNS TABLE (attempt_id uuid, tenant_id uuid, payer_tenant_id uuid, held_tokens bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    old record;
    v_held bigint;
BEGIN
    FOR old IN
        SELECT a.id, a.tenant_id, a.payer_tenant_id, a.day, a.operation_id, a.provider, a.model,
               a.provider_request_id
          FROM ledger_attempt a JOIN ledger_operation o ON o.id = a.operation_id
         WHERE a.state = 'unknown' AND a.deadline < clock_timestamp() - p_grace
         ORDER BY a.payer_tenant_id, a.day DESC, a.id LIMIT p_limit FOR NO KEY UPDATE OF o SKIP LOCKED
    LOOP
        -- After the lock: the loop's own snapshot may be older than a settlement that has taken a part of the hold.
        SELECT a.held_tokens INTO v_held FROM ledger_attempt a WHERE a.id = old.id AND a.state = 'unknown';
        CONTINUE WHEN NOT FOUND;
        UPDATE ledger_attempt a SET state = 'lost', held_tokens = 0, closed_at = clock_timestamp() WHERE a.id = old.id;
        PERFORM ledger_move(old.payer_tenant_id, old.day, v_held, 0);
        PERFORM ledger_note(old.payer_tenant_id, 'lost_attempt', 'attempt ' || old.id, v_held, jsonb_build_object(
            'operation_id', old.operation_id, 'provider', old.provider, 'model', old.model,
            'provider_request_id', old.provider_request_id));
        attempt_id := old.id;
        tenant_id := old.tenant_id;
        payer_tenant_id := old.payer_tenant_id;
        held_tokens := v_held;
        RETURN NEXT;
    END LOOP;
END $$;
