-- Budgets: what may be spent in a UTC day or month, for an account as a whole, an endpoint or a model. Money is held before it is spent;
-- what is held or spent never exceeds a limit. Everything is in fleet time, and under the account's mutex, so that a call reads what the one
-- before it left. The promise is by our price table: what the platform charges is its own affair.

-- A sum of money as the fleet counts it: rounded up to a millionth of a dollar. FL001 for anything that is no sum. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_usd(field text, usd numeric, lowest numeric DEFAULT 0.000001) RETURNS numeric
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rounded numeric := ceil(usd * 1000000) / 1000000;
BEGIN
    -- NaN is above every number.
    IF usd IS NULL OR NOT (usd >= 0 AND rounded >= lowest AND rounded <= 1000000) THEN
        PERFORM fleet.refuse(field, usd::text, format('US dollars from %s to 1000000', lowest));
    END IF;
    RETURN rounded;
END $$;

-- The UTC day or month that a moment is in. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.budget_start(period text, at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN date_trunc(period, at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';

-- The first moment after the UTC day or month that a moment is in. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.budget_end(period text, at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (date_trunc(period, at AT TIME ZONE 'UTC') + CASE period WHEN 'day' THEN interval '1 day' ELSE interval '1 month' END) AT TIME ZONE 'UTC';

-- Whether a budget of that kind and name counts what an endpoint and a model cost. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.budget_counts(kind text, name text, endpoint text, model text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(CASE kind WHEN 'total' THEN true WHEN 'endpoint' THEN name = endpoint ELSE name = model END, false);

-- The alert of a budget. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.budget_key(account text, kind text, name text, period text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'budget:' || account || ':' || kind || ':' || name || ':' || period;

-- Makes the rows of this period and the next where they are missing. A budget that is new within its period finds what was spent and held
-- in it before. Under the account's mutex; a few reads where nothing is missing, else the holds of each new period by index.
CREATE OR REPLACE FUNCTION fleet.make_budget_periods(account text, at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    made record;
    margin interval := fleet.budget_margin();
BEGIN
    FOR made IN
        SELECT b.kind, b.name, b.period, w.starts_at, fleet.budget_end(b.period, w.starts_at) AS ends_at
        FROM fleet.budgets b, LATERAL (VALUES (fleet.budget_start(b.period, at)), (fleet.budget_end(b.period, at))) AS w(starts_at)
        WHERE b.account = make_budget_periods.account AND NOT EXISTS (SELECT 1 FROM fleet.budget_periods p
            WHERE (p.account, p.kind, p.name, p.period, p.starts_at) = (b.account, b.kind, b.name, b.period, w.starts_at)
              AND p.ends_at > at)  -- so that those of past periods are not read
        ORDER BY b.kind, b.name, b.period, w.starts_at
    LOOP
        WITH counted AS (
            SELECT * FROM fleet.budget_holds h
            WHERE h.account = make_budget_periods.account AND h.state IN ('held', 'kept', 'spent')
              AND fleet.budget_counts(made.kind, made.name, h.endpoint, h.model)
              AND h.held_at < made.ends_at AND h.expires_at >= made.starts_at - margin
        ), linked AS (
            INSERT INTO fleet.budget_hold_periods (hold, kind, name, period, starts_at)
            SELECT c.id, made.kind, made.name, made.period, made.starts_at FROM counted c
        )
        INSERT INTO fleet.budget_periods (account, kind, name, period, starts_at, ends_at, spent_usd, held_usd)
        SELECT make_budget_periods.account, made.kind, made.name, made.period, made.starts_at, made.ends_at,
            coalesce(sum(c.actual_usd) FILTER (WHERE c.state = 'spent'), 0),
            coalesce(sum(c.amount_usd) FILTER (WHERE c.state IN ('held', 'kept')), 0)
        FROM counted c;
        IF made.starts_at > at THEN  -- a period has begun, and with it what was told of the one before is over
            PERFORM fleet.clear_alert(fleet.budget_key(make_budget_periods.account, made.kind, made.name, made.period));
        END IF;
    END LOOP;
END $$;

-- A budget as a person reads it. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.budget_subject(account text, kind text, name text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'account ' || account || CASE kind WHEN 'total' THEN '' ELSE ' for ' || kind || ' ' || name END;

-- Tells that a budget has reached 80, 95 or 100 percent, each once a period, with one alert for them. Under the account's mutex.
CREATE OR REPLACE FUNCTION fleet.tell_budget(
    account text, kind text, name text, period text, starts_at timestamptz, percent integer, source text
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    told text;
BEGIN
    UPDATE fleet.budget_periods p SET told_percent = tell_budget.percent
    WHERE (p.account, p.kind, p.name, p.period, p.starts_at)
        = (tell_budget.account, tell_budget.kind, tell_budget.name, tell_budget.period, tell_budget.starts_at)
      AND p.told_percent < tell_budget.percent;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    told := format(CASE percent WHEN 100 THEN 'the %s budget of %s is used up: a call was refused' ELSE 'the %s budget of %s is used to %s%%' END,
        tell_budget.period, fleet.budget_subject(tell_budget.account, tell_budget.kind, tell_budget.name), percent);
    PERFORM fleet.raise_alert(fleet.budget_key(tell_budget.account, tell_budget.kind, tell_budget.name, tell_budget.period),
        CASE WHEN percent < 95 THEN 'warning' ELSE 'error' END, 'budget', tell_budget.source, told,
        jsonb_build_object('account', tell_budget.account, 'kind', tell_budget.kind, 'name', tell_budget.name,
            'period', tell_budget.period, 'percent', percent));
    PERFORM fleet.emit('warning', 'budget', tell_budget.source, told, jsonb_build_object('account', tell_budget.account,
        'kind', tell_budget.kind, 'name', tell_budget.name, 'period', tell_budget.period, 'percent', percent));
    RETURN true;
END $$;

-- The warnings that a hold's sum gives rise to, those that are new told too. Under the account's mutex.
CREATE OR REPLACE FUNCTION fleet.warn_of_budgets(known fleet.budget_holds, at timestamptz) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    used record;
    warnings jsonb := '[]';
BEGIN
    FOR used IN
        SELECT p.kind, p.name, p.period, p.starts_at,
            CASE WHEN p.spent_usd + p.held_usd >= b.limit_usd * 0.95 THEN 95 ELSE 80 END AS percent
        FROM fleet.budget_hold_periods l JOIN fleet.budget_periods p USING (kind, name, period, starts_at)
        JOIN fleet.budgets b USING (account, kind, name, period)
        WHERE l.hold = known.id AND p.account = known.account AND p.starts_at <= at AND p.spent_usd + p.held_usd >= b.limit_usd * 0.8
        ORDER BY p.kind, p.name, p.period
    LOOP
        PERFORM fleet.tell_budget(known.account, used.kind, used.name, used.period, used.starts_at, used.percent, known.worker_id);
        warnings := warnings || jsonb_build_object('kind', used.kind, 'name', used.name, 'period', used.period, 'percent', used.percent);
    END LOOP;
    RETURN warnings;
END $$;

-- A person sets a limit; what was spent in its period before counts. Audited, flushed; takes the account's mutex.
CREATE OR REPLACE FUNCTION fleet.set_budget(
    account text, period text, limit_usd numeric, actor text, reason text, kind text DEFAULT 'total', name text DEFAULT ''
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    usd numeric;
    at timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    IF set_budget.account IS NULL OR length(set_budget.account) NOT BETWEEN 1 AND 100 THEN
        PERFORM fleet.refuse('account', set_budget.account, '1 to 100 characters: the account that pays');
    END IF;
    IF set_budget.kind IS NULL OR set_budget.kind NOT IN ('total', 'endpoint', 'model') THEN
        PERFORM fleet.refuse('kind', set_budget.kind, 'total, endpoint or model');
    END IF;
    IF set_budget.name IS NULL OR (set_budget.kind = 'total') <> (set_budget.name = '') OR length(set_budget.name) > 100 THEN
        PERFORM fleet.refuse('name', set_budget.name, 'the name of the endpoint or model; nothing for the total');
    END IF;
    IF set_budget.period IS NULL OR set_budget.period NOT IN ('day', 'month') THEN
        PERFORM fleet.refuse('period', set_budget.period, 'day or month');
    END IF;
    usd := fleet.require_usd('limit_usd', set_budget.limit_usd, 0);
    PERFORM pg_advisory_xact_lock(fleet.lock_key('budget', set_budget.account));
    at := fleet.now();
    PERFORM fleet.write_audit(actor, 'set_budget', fleet.budget_key(set_budget.account, set_budget.kind, set_budget.name, set_budget.period),
        set_budget.reason, jsonb_build_object('limit_usd', usd::text, 'before', (SELECT b.limit_usd::text FROM fleet.budgets b
            WHERE (b.account, b.kind, b.name, b.period) = (set_budget.account, set_budget.kind, set_budget.name, set_budget.period))));
    INSERT INTO fleet.budgets (account, kind, name, period, limit_usd, changed_by, reason, changed_at)
    VALUES (set_budget.account, set_budget.kind, set_budget.name, set_budget.period, usd, left(actor, 200), left(set_budget.reason, 1000), at)
    ON CONFLICT ON CONSTRAINT budgets_pkey DO UPDATE SET limit_usd = excluded.limit_usd, changed_by = excluded.changed_by,
        reason = excluded.reason, changed_at = excluded.changed_at;
    PERFORM fleet.make_budget_periods(set_budget.account, at);
    UPDATE fleet.budget_periods p SET told_percent = 0
    WHERE (p.account, p.kind, p.name, p.period) = (set_budget.account, set_budget.kind, set_budget.name, set_budget.period) AND p.ends_at > at;
    PERFORM fleet.clear_alert(fleet.budget_key(set_budget.account, set_budget.kind, set_budget.name, set_budget.period));
    RETURN jsonb_build_object('account', set_budget.account, 'kind', set_budget.kind, 'name', set_budget.name, 'period', set_budget.period,
        'limit_usd', usd::text);
END $$;

-- A person takes a limit away; without one for its total an account can spend nothing. Audited, flushed; takes the account's mutex.
CREATE OR REPLACE FUNCTION fleet.remove_budget(
    account text, period text, actor text, reason text, kind text DEFAULT 'total', name text DEFAULT ''
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    gone fleet.budgets;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM pg_advisory_xact_lock(fleet.lock_key('budget', remove_budget.account));
    DELETE FROM fleet.budgets b
    WHERE (b.account, b.kind, b.name, b.period) = (remove_budget.account, remove_budget.kind, remove_budget.name, remove_budget.period)
    RETURNING * INTO gone;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM fleet.write_audit(actor, 'remove_budget', fleet.budget_key(gone.account, gone.kind, gone.name, gone.period),
        remove_budget.reason, jsonb_build_object('before', gone.limit_usd::text));
    PERFORM fleet.clear_alert(fleet.budget_key(gone.account, gone.kind, gone.name, gone.period));
    RETURN true;
END $$;

-- Every budget in its present period: limit, spent, held, left, and how many holds are kept, since when. Locks nothing; reads the rows of
-- the budgets and the open holds.
CREATE OR REPLACE FUNCTION fleet.get_budget_status(incarnation uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at timestamptz := fleet.now();
BEGIN
    RETURN coalesce((SELECT jsonb_agg(jsonb_build_object('account', b.account, 'kind', b.kind, 'name', b.name, 'period', b.period,
            'limit_usd', b.limit_usd::text, 'spent_usd', coalesce(p.spent_usd, 0)::text, 'held_usd', coalesce(p.held_usd, 0)::text,
            'left_usd', greatest(0.000000, b.limit_usd - coalesce(p.spent_usd + p.held_usd, 0))::text,
            'used_percent', CASE WHEN b.limit_usd > 0
                THEN round(100 * coalesce(p.spent_usd + p.held_usd, 0) / b.limit_usd, 1)::double precision ELSE 100 END,
            'resets_at', fleet.budget_end(b.period, at), 'open_holds', h.number, 'oldest_hold_at', h.oldest)
            ORDER BY b.account, b.kind, b.name, b.period)
        FROM fleet.budgets b
        LEFT JOIN fleet.budget_periods p ON (p.account, p.kind, p.name, p.period, p.starts_at)
            = (b.account, b.kind, b.name, b.period, fleet.budget_start(b.period, at))
        CROSS JOIN LATERAL (SELECT count(*) AS number, min(o.held_at) AS oldest FROM fleet.budget_holds o
            WHERE o.account = b.account AND o.state IN ('held', 'kept') AND fleet.budget_counts(b.kind, b.name, o.endpoint, o.model)) h), '[]');
END $$;
