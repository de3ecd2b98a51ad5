-- Holds: money that is held before it is spent, in every budget that counts it or in none. A hold runs out by itself until it is
-- kept; from then on it stays until somebody knows what was spent.

-- How long after it was kept a hold's money may still be spent: a call's deadline and the time to begin it. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.budget_margin() RETURNS interval
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN interval '60 seconds' * coalesce((SELECT c.rate FROM fleet.clock c), 1);
END $$;

-- Ends a hold: what it held becomes free, or is spent, in place of what it was told to have spent before. Under the account's mutex;
-- takes the hold's period rows in key order.
CREATE OR REPLACE FUNCTION fleet.end_hold(
    known fleet.budget_holds, to_state text, actual numeric, ended_by text, reason text
) RETURNS fleet.budget_holds
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ended fleet.budget_holds;
    open_usd numeric := CASE WHEN known.state IN ('held', 'kept') THEN known.amount_usd ELSE 0 END;
BEGIN
    PERFORM 1 FROM fleet.budget_periods p JOIN fleet.budget_hold_periods l USING (kind, name, period, starts_at)
    WHERE l.hold = known.id AND p.account = known.account ORDER BY p.kind, p.name, p.period, p.starts_at FOR UPDATE OF p;
    UPDATE fleet.budget_periods p SET held_usd = p.held_usd - open_usd, 
        spent_usd = p.spent_usd + coalesce(actual, 0) - coalesce(known.actual_usd, 0)
    FROM fleet.budget_hold_periods l
    WHERE l.hold = known.id AND p.account = known.account
      AND (p.kind, p.name, p.period, p.starts_at) = (l.kind, l.name, l.period, l.starts_at);
    UPDATE fleet.budget_holds h SET state = to_state, actual_usd = actual, ended_at = fleet.now(), ended_by = left(end_hold.ended_by, 200),
        reason = left(end_hold.reason, 500)
    WHERE h.id = known.id RETURNING * INTO ended;
    RETURN ended;
END $$;

-- Frees what was held and never kept in its time. Under the account's mutex; reads the account's open holds by index.
CREATE OR REPLACE FUNCTION fleet.expire_holds(account text, at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known fleet.budget_holds;
BEGIN
    FOR known IN SELECT * FROM fleet.budget_holds h
        WHERE h.account = expire_holds.account AND h.state = 'held' AND h.expires_at <= at ORDER BY h.id FOR UPDATE
    LOOP
        PERFORM fleet.end_hold(known, 'expired', NULL, 'fleet', 'it was not used in its time');
    END LOOP;
END $$;

-- Holds money before it is spent: in every period that it may fall into, or in none. Takes the account's mutex, then its period rows in
-- key order, flushed. kept: it is spent at once, and so never expires by itself. One that is not kept is free again after lease_s.
CREATE OR REPLACE FUNCTION fleet.hold_budget(
    incarnation uuid, account text, amount_usd numeric, purpose text, endpoint text DEFAULT NULL, model text DEFAULT NULL,
    lease_s double precision DEFAULT 120, kept boolean DEFAULT false
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET plan_cache_mode = force_generic_plan AS $$  -- to plan it anew takes longer than to run it (ADR-0052)
DECLARE
    life fleet.incarnations;
    usd numeric;
    at timestamptz;
    until timestamptz;
    latest timestamptz;  -- when the money may still be spent
    short record;
    held fleet.budget_holds;
    warnings jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    PERFORM set_config('synchronous_commit', 'on', true);
    usd := fleet.require_usd('amount_usd', hold_budget.amount_usd);
    IF hold_budget.account IS NULL OR length(hold_budget.account) NOT BETWEEN 1 AND 100 THEN
        PERFORM fleet.refuse('account', hold_budget.account, '1 to 100 characters: the account that pays');
    END IF;
    IF length(trim(coalesce(hold_budget.purpose, ''))) = 0 THEN
        PERFORM fleet.refuse('purpose', hold_budget.purpose, 'what the money is for');
    END IF;
    IF hold_budget.lease_s IS NULL OR NOT (hold_budget.lease_s > 0 AND hold_budget.lease_s <= 3600) THEN
        PERFORM fleet.refuse('lease_s', hold_budget.lease_s::text, 'more than 0, at most 3600 seconds');
    END IF;
    IF hold_budget.kept IS NULL THEN
        PERFORM fleet.refuse('kept', NULL, 'true or false');
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('budget', hold_budget.account));
    at := fleet.now();
    PERFORM fleet.make_budget_periods(hold_budget.account, at);
    PERFORM fleet.expire_holds(hold_budget.account, at);
    IF NOT EXISTS (SELECT 1 FROM fleet.budgets b WHERE b.account = hold_budget.account AND b.kind = 'total') THEN
        RETURN fleet.refuse_hold('account ' || hold_budget.account || ' has no budget: what nobody has allowed is not spent');
    END IF;
    until := at + make_interval(secs => hold_budget.lease_s) * coalesce((SELECT c.rate FROM fleet.clock c), 1);
    latest := until + fleet.budget_margin();
    PERFORM 1 FROM fleet.budget_periods p
    WHERE p.account = hold_budget.account AND fleet.budget_counts(p.kind, p.name, hold_budget.endpoint, hold_budget.model)
      AND p.starts_at <= latest AND p.ends_at > at
    ORDER BY p.kind, p.name, p.period, p.starts_at FOR UPDATE;
    SELECT p.*, b.limit_usd INTO short FROM fleet.budget_periods p JOIN fleet.budgets b USING (account, kind, name, period)
    WHERE p.account = hold_budget.account AND fleet.budget_counts(p.kind, p.name, hold_budget.endpoint, hold_budget.model)
      AND p.starts_at <= latest AND p.ends_at > at AND p.spent_usd + p.held_usd + usd > b.limit_usd
    ORDER BY p.ends_at DESC, p.kind, p.name LIMIT 1;
    IF FOUND THEN
        PERFORM fleet.tell_budget(hold_budget.account, short.kind, short.name, short.period, short.starts_at, 100,
            life.worker || '/' || life.slot);
        RETURN fleet.refuse_hold(format('the %s budget of %s has %s of %s USD left', short.period,
                fleet.budget_subject(hold_budget.account, short.kind, short.name),
                greatest(0.000000, short.limit_usd - short.spent_usd - short.held_usd), short.limit_usd),
            jsonb_build_object('kind', short.kind, 'name', short.name, 'period', short.period, 'limit_usd', short.limit_usd::text,
                'left_usd', greatest(0.000000, short.limit_usd - short.spent_usd - short.held_usd)::text, 'resets_at', short.ends_at));
    END IF;
    INSERT INTO fleet.budget_holds (account, endpoint, model, amount_usd, purpose, incarnation, worker_id, state, held_at, expires_at)
    VALUES (hold_budget.account, hold_budget.endpoint, hold_budget.model, usd, left(hold_budget.purpose, 300), life.id,
        life.worker || '/' || life.slot, CASE WHEN hold_budget.kept THEN 'kept' ELSE 'held' END, at, until)
    RETURNING * INTO held;
    WITH counted AS (
        UPDATE fleet.budget_periods p SET held_usd = p.held_usd + usd
        WHERE p.account = hold_budget.account AND fleet.budget_counts(p.kind, p.name, hold_budget.endpoint, hold_budget.model)
          AND p.starts_at <= latest AND p.ends_at > at
        RETURNING p.kind, p.name, p.period, p.starts_at)
    INSERT INTO fleet.budget_hold_periods (hold, kind, name, period, starts_at)
    SELECT held.id, c.kind, c.name, c.period, c.starts_at FROM counted c;
    warnings := fleet.warn_of_budgets(held, at);
    RETURN jsonb_build_object('held', true, 'hold_id', held.id::text, 'amount_usd', held.amount_usd::text, 'expires_at',
        CASE held.state WHEN 'held' THEN held.expires_at END, 'warnings', warnings, 'reason', NULL, 'short', NULL);
END $$;

-- A no to a hold. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.refuse_hold(reason text, short jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_build_object('held', false, 'hold_id', NULL, 'amount_usd', NULL, 'expires_at', NULL, 'warnings', '[]'::jsonb,
    'reason', reason, 'short', short);

-- The caller's hold, under its account's mutex. FL001 where it has none of that number.
CREATE OR REPLACE FUNCTION fleet.take_hold(incarnation uuid, hold bigint) RETURNS fleet.budget_holds
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known fleet.budget_holds;
BEGIN
    SELECT * INTO known FROM fleet.budget_holds h WHERE h.id = take_hold.hold AND h.incarnation = take_hold.incarnation;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('hold', take_hold.hold::text, 'a hold that this incarnation was given');
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('budget', known.account));
    SELECT * INTO known FROM fleet.budget_holds h WHERE h.id = take_hold.hold FOR UPDATE;
    RETURN known;
END $$;

-- FL002: the hold is over. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.hold_lost(known fleet.budget_holds) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'hold % of % USD is %: %', known.id, known.amount_usd, known.state, coalesce(known.reason, '')
        USING ERRCODE = 'FL002', HINT = 'spend nothing on it; ask for a new hold';
END $$;

-- From here on the money may be spent, so that the hold stays until somebody knows whether it was, whatever becomes of its process. FL002
-- where its time was over. Takes the account's mutex, flushed.
CREATE OR REPLACE FUNCTION fleet.keep_hold(incarnation uuid, hold bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.budget_holds;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM set_config('synchronous_commit', 'on', true);
    known := fleet.take_hold(incarnation, hold);
    IF known.state = 'held' AND known.expires_at > fleet.now() THEN
        UPDATE fleet.budget_holds h SET state = 'kept' WHERE h.id = known.id RETURNING * INTO known;
    ELSIF known.state <> 'kept' THEN
        known.reason := coalesce(known.reason, 'its time was over');
        PERFORM fleet.hold_lost(known);
    END IF;
    RETURN jsonb_build_object('hold_id', known.id::text, 'state', known.state);
END $$;

-- What a hold's money came to: never more than was held. Open to its holder also after the holder's incarnation ended, who alone knows; told
-- twice it changes nothing. What was spent on a hold that was over, or more than was told before, is counted all the same, and told as an
-- error. Takes the account's mutex, flushed.
CREATE OR REPLACE FUNCTION fleet.settle_hold(incarnation uuid, hold bigint, actual_usd numeric) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.budget_holds;
    actual numeric;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    actual := fleet.require_usd('actual_usd', settle_hold.actual_usd, 0);
    known := fleet.take_hold(incarnation, hold);
    IF actual > known.amount_usd THEN
        PERFORM fleet.refuse('actual_usd', settle_hold.actual_usd::text, format('at most the %s USD that were held', known.amount_usd));
    END IF;
    IF known.state IN ('held', 'kept') THEN
        known := fleet.end_hold(known, 'spent', actual, known.worker_id, NULL);
    ELSIF actual > coalesce(known.actual_usd, 0) THEN
        known := fleet.spend_late(known, actual);
    END IF;
    RETURN jsonb_build_object('hold_id', known.id::text, 'state', known.state, 'actual_usd', known.actual_usd::text);
END $$;

-- Counts money that was spent on a hold that is over, in the periods that were made meanwhile too, and tells of it. Under the account's
-- mutex; takes the hold's period rows in key order.
CREATE OR REPLACE FUNCTION fleet.spend_late(known fleet.budget_holds, actual numeric) RETURNS fleet.budget_holds
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    margin interval := fleet.budget_margin();
BEGIN
    PERFORM fleet.emit('error', 'budget_late', known.worker_id, format(
        '%s USD were spent on hold %s of account %s that was %s: keep a hold before it is spent, settle it once it is known',
        round(actual - coalesce(known.actual_usd, 0), 6), known.id, known.account, known.state), jsonb_build_object('hold', known.id::text));
    INSERT INTO fleet.budget_hold_periods (hold, kind, name, period, starts_at)
    SELECT known.id, p.kind, p.name, p.period, p.starts_at FROM fleet.budget_periods p
    WHERE p.account = known.account AND fleet.budget_counts(p.kind, p.name, known.endpoint, known.model)
      AND known.held_at < p.ends_at AND known.expires_at >= p.starts_at - margin
    ON CONFLICT DO NOTHING;
    RETURN fleet.end_hold(known, 'spent', actual, known.worker_id, 'told when it was ' || known.state);
END $$;

-- Nothing was spent: the holder gives its hold back, also one that is kept, and also after its incarnation ended. Told twice it changes
-- nothing. Takes the account's mutex, flushed.
CREATE OR REPLACE FUNCTION fleet.release_hold(incarnation uuid, hold bigint, reason text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.budget_holds;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    known := fleet.take_hold(incarnation, hold);
    IF known.state IN ('held', 'kept') THEN
        known := fleet.end_hold(known, 'released', NULL, known.worker_id, coalesce(release_hold.reason, 'nothing was spent'));
    END IF;
    RETURN jsonb_build_object('hold_id', known.id::text, 'state', known.state, 'actual_usd', known.actual_usd::text);
END $$;

-- A person decides about a hold that nobody reports on any more: spent (by default all of it) or released. Audited, flushed; takes the
-- account's mutex. FL005 where it is over already.
CREATE OR REPLACE FUNCTION fleet.decide_hold(hold bigint, decision text, actor text, reason text, actual_usd numeric DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    known fleet.budget_holds;
    actual numeric;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    IF decision IS NULL OR decision NOT IN ('spent', 'released') THEN
        PERFORM fleet.refuse('decision', decision, 'spent or released');
    END IF;
    SELECT * INTO known FROM fleet.budget_holds h WHERE h.id = decide_hold.hold;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('hold', decide_hold.hold::text, 'the number of a hold');
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('budget', known.account));
    SELECT * INTO known FROM fleet.budget_holds h WHERE h.id = decide_hold.hold FOR UPDATE;
    IF known.state NOT IN ('held', 'kept') THEN
        RAISE EXCEPTION 'hold % is %: only one that is open can be decided', known.id, known.state
            USING ERRCODE = 'FL005', DETAIL = json_build_object('hold', known.id::text, 'state', known.state);
    END IF;
    actual := CASE decision WHEN 'spent' THEN fleet.require_usd('actual_usd', coalesce(decide_hold.actual_usd, known.amount_usd), 0) END;
    IF actual > known.amount_usd THEN
        PERFORM fleet.refuse('actual_usd', decide_hold.actual_usd::text, format('at most the %s USD that were held', known.amount_usd));
    END IF;
    PERFORM fleet.write_audit(actor, 'decide_hold', 'hold ' || known.id, decide_hold.reason,
        jsonb_build_object('decision', decision, 'amount_usd', known.amount_usd::text, 'actual_usd', actual::text));
    known := fleet.end_hold(known, decision, actual, actor, decide_hold.reason);
    RETURN jsonb_build_object('hold_id', known.id::text, 'state', known.state, 'actual_usd', known.actual_usd::text);
END $$;
