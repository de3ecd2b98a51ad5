-- Conflicts: where workers got in each other's way.

-- What is contended now, and what happened since a time of fleet time (the last hour where none is given): sends refused since
-- the content had been engaged, reports that came late, messages delivered again. Locks nothing; a range read of the events.
CREATE OR REPLACE FUNCTION fleet.count_conflicts(incarnation uuid, since timestamptz DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted_at timestamptz := fleet.now();
    started timestamptz := coalesce(since, counted_at - interval '1 hour');
BEGIN
    PERFORM fleet.require_incarnation(incarnation);
    RETURN (SELECT jsonb_build_object('at', counted_at, 'real_at', clock_timestamp(),
        'engaged_before', count(*) FILTER (WHERE e.kind = 'send_refused' AND e.message LIKE '%recent_engagement'),
        'late_reports', count(*) FILTER (WHERE e.kind = 'late_report'),
        'redelivered', (SELECT count(*) FROM fleet.messages m WHERE m.state IN ('waiting', 'claimed')
            AND (m.errors->-1->>'at')::timestamptz > started AND m.errors->-1->>'error' LIKE 'its holder ended%'),
        'locks_held', (SELECT count(*) FROM fleet.engagement_locks l WHERE l.lease_expires_at > clock_timestamp()))
        FROM fleet.events e WHERE e.at > started);
END $$;

-- Settles a conflict of 2 to 100 contenders {worker, priority, since, version}: the higher priority wins; among equals who came first;
-- among those equal shares of the capacity, where it can be divided. Of inconsistent states the one of the highest version holds. What
-- none of these tells apart a person decides: an alert is open until then. Times that collide are put one after the other in the same
-- order, spacing_s apart. One settlement a key, however often it is asked for: takes the key's lock. Recorded with its reason, and told
-- to who asked and to each contender in the same transaction. Gives it, and who is to be woken. Flushed.
CREATE OR REPLACE FUNCTION fleet.resolve_conflict(
    incarnation uuid, key text, kind text, thing text, contenders jsonb, asked_by text DEFAULT NULL, asked_at timestamptz DEFAULT NULL,
    capacity double precision DEFAULT NULL, spacing_s double precision DEFAULT 60
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_variable
DECLARE
    life fleet.incarnations;
    settled fleet.conflicts;
    at timestamptz;
    first_at timestamptz;
    ties integer;
    found_strategy text;
    found_grants jsonb;
    why text;
BEGIN
    PERFORM fleet.require_read_committed();
    life := fleet.require_incarnation(incarnation);
    IF key IS NULL OR length(key) NOT BETWEEN 1 AND 300 THEN
        PERFORM fleet.refuse('key', key, '1 to 300 characters');
    END IF;
    IF kind IS NULL OR kind NOT IN ('resource', 'priority', 'schedule', 'state') THEN
        PERFORM fleet.refuse('kind', kind, 'resource, priority, schedule or state');
    END IF;
    IF thing IS NULL OR length(thing) NOT BETWEEN 1 AND 300 THEN
        PERFORM fleet.refuse('thing', thing, 'what they contend for, in 1 to 300 characters');
    END IF;
    IF asked_by !~ '^[a-z][a-z0-9_-]{0,62}$' THEN
        PERFORM fleet.refuse('asked_by', asked_by, 'no value (the caller), or the name of a worker');
    END IF;
    IF NOT isfinite(asked_at) THEN
        PERFORM fleet.refuse('asked_at', asked_at::text, 'no value (now), or a moment');
    END IF;
    IF NOT coalesce(capacity > 0 AND capacity <= 1e9, true) THEN
        PERFORM fleet.refuse('capacity', capacity::text, 'no value (it can''t be divided), or more than 0, at most 1e9');
    END IF;
    IF spacing_s IS NULL OR NOT (spacing_s > 0 AND spacing_s <= 86400) THEN
        PERFORM fleet.refuse('spacing_s', spacing_s::text, 'more than 0, at most 86400 seconds');
    END IF;
    PERFORM fleet.check_contenders(kind, contenders);
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM pg_advisory_xact_lock(fleet.lock_key('conflict', key));
    SELECT * INTO settled FROM fleet.conflicts c WHERE c.key = resolve_conflict.key;
    IF FOUND THEN
        RETURN fleet.show_conflict(settled) || '{"wake": []}';
    END IF;
    at := fleet.now();
    first_at := least(coalesce(asked_at, at), at);
    -- Best first. What is equal in all that decides has the same place.
    SELECT jsonb_agg(jsonb_build_object('worker', r.worker, 'place', r.place) ORDER BY r.place, r.worker), count(*) FILTER (WHERE r.place = 1)
    INTO found_grants, ties FROM (
        SELECT c->>'worker' AS worker, rank() OVER (ORDER BY CASE WHEN kind = 'state' THEN -(c->>'version')::bigint
            ELSE -fleet.priority_rank(coalesce(c->>'priority', 'medium')) END,
            CASE WHEN kind <> 'state' THEN (c->>'since')::timestamptz END NULLS LAST) AS place
        FROM jsonb_array_elements(contenders) c) r;
    found_strategy := CASE
        WHEN kind = 'state' THEN CASE WHEN ties = 1 THEN 'newest' ELSE 'person' END
        WHEN ties = 1 AND (SELECT count(*) FROM jsonb_array_elements(contenders) c
            WHERE fleet.priority_rank(coalesce(c->>'priority', 'medium')) = (SELECT max(fleet.priority_rank(coalesce(o->>'priority', 'medium')))
                FROM jsonb_array_elements(contenders) o)) = 1 THEN 'priority'
        WHEN ties = 1 THEN 'first_come'
        WHEN kind = 'schedule' THEN 'first_come'  -- any order among them will do
        WHEN capacity IS NOT NULL THEN 'equal_shares'
        ELSE 'person' END;
    IF kind = 'schedule' THEN
        found_grants := (SELECT jsonb_agg(g.one || jsonb_build_object('place', g.n, 'wait_s', (g.n - 1) * spacing_s) ORDER BY g.n)
            FROM jsonb_array_elements(found_grants) WITH ORDINALITY g(one, n));
    ELSIF found_strategy = 'equal_shares' THEN
        found_grants := (SELECT jsonb_agg(g.one || jsonb_build_object('share', CASE WHEN (g.one->>'place')::integer = 1
            THEN capacity / ties ELSE 0 END) ORDER BY g.n) FROM jsonb_array_elements(found_grants) WITH ORDINALITY g(one, n));
    END IF;
    why := CASE found_strategy
        WHEN 'priority' THEN format('%s has the highest priority', found_grants->0->>'worker')
        WHEN 'first_come' THEN format('%s came first among those of the highest priority', found_grants->0->>'worker')
        WHEN 'newest' THEN format('the state of %s has the highest version', found_grants->0->>'worker')
        WHEN 'equal_shares' THEN format('%s contenders are equal in priority and time: each gets %s', ties, capacity / ties)
        ELSE format('%s contenders are equal in all that decides: a person must', ties) END;
    INSERT INTO fleet.conflicts (key, kind, thing, contenders, strategy, state, winner, grants, reason, asked_by, asked_at, decided_by,
        decided_at, took_s)
    VALUES (key, kind, thing, contenders, found_strategy, CASE found_strategy WHEN 'person' THEN 'open' ELSE 'decided' END,
        CASE WHEN found_strategy NOT IN ('person', 'equal_shares') THEN found_grants->0->>'worker' END, found_grants, why,
        coalesce(asked_by, life.worker), first_at, CASE WHEN found_strategy <> 'person' THEN life.worker END,
        CASE WHEN found_strategy <> 'person' THEN at END,
        CASE WHEN found_strategy <> 'person' THEN extract(epoch FROM at - first_at) / coalesce((SELECT c.rate FROM fleet.clock c), 1) END)
    RETURNING * INTO settled;
    IF settled.state = 'open' THEN
        PERFORM fleet.raise_alert('conflict:' || settled.id, 'error', 'conflict', life.worker || '/' || life.slot,
            format('a conflict over %s waits for a person: %s', thing, why), jsonb_build_object('conflict', settled.id::text));
    ELSE
        PERFORM fleet.emit('info', 'conflict_settled', life.worker || '/' || life.slot, format('conflict %s over %s (%s): %s',
            settled.id, thing, found_strategy, why), jsonb_build_object('conflict', settled.id::text));
    END IF;
    RETURN fleet.show_conflict(settled) || jsonb_build_object('wake', fleet.tell_decision(settled, life.worker));
END $$;

-- FL001 unless these are 2 to 100 contenders, each once, that can be compared. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.check_contenders(kind text, contenders jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one jsonb;
BEGIN
    IF jsonb_typeof(contenders) IS DISTINCT FROM 'array' OR jsonb_array_length(contenders) NOT BETWEEN 2 AND 100
        OR octet_length(contenders::text) > 65536 THEN
        PERFORM fleet.refuse('contenders', contenders::text, 'a list of 2 to 100 objects with worker, priority and since, of at most 64 kB');
    END IF;
    FOR one IN SELECT * FROM jsonb_array_elements(contenders) LOOP
        IF jsonb_typeof(one) <> 'object' OR one->>'worker' IS NULL OR one->>'worker' !~ '^[a-z][a-z0-9_-]{0,62}$' THEN
            PERFORM fleet.refuse('contenders.worker', one->>'worker', 'the name of a worker');
        END IF;
        IF one->>'priority' NOT IN ('low', 'medium', 'high', 'critical') THEN
            PERFORM fleet.refuse('contenders.priority', one->>'priority', 'no value (medium), low, medium, high or critical');
        END IF;
        PERFORM fleet.check_moment('contenders.since', one->>'since');
        IF kind = 'state' AND (jsonb_typeof(one->'version') IS DISTINCT FROM 'number' OR (one->'version')::text !~ '^-?[0-9]{1,18}$') THEN
            PERFORM fleet.refuse('contenders.version', one->>'version', 'a whole number');
        END IF;
    END LOOP;
    IF (SELECT count(DISTINCT c->>'worker') FROM jsonb_array_elements(contenders) c) < jsonb_array_length(contenders) THEN
        PERFORM fleet.refuse('contenders.worker', contenders::text, 'each worker once');
    END IF;
END $$;

-- FL001 unless a text is a moment with its offset, in a calendar that has it, or null. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.check_moment(field text, moment text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_one boolean := coalesce(moment ~ '^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)$', true);
BEGIN
    BEGIN
        is_one := is_one AND isfinite(moment::timestamptz) IS NOT FALSE;
    EXCEPTION WHEN data_exception THEN
        is_one := false;
    END;
    IF NOT is_one THEN
        PERFORM fleet.refuse(field, moment, 'no value, or a moment with its offset, as 2026-01-31T09:30:00+00:00');
    END IF;
END $$;

-- A settlement as its callers get it. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.show_conflict(settled fleet.conflicts) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object('id', settled.id::text, 'kind', settled.kind, 'thing', settled.thing, 'state', settled.state,
        'strategy', settled.strategy, 'winner', settled.winner, 'grants', settled.grants, 'reason', settled.reason,
        'decided_by', settled.decided_by, 'decided_at', settled.decided_at);
END $$;

-- Tells a settlement to who asked and to each contender that the fleet knows, in the order of their names; gives who is to be woken.
-- In the settlement's own transaction: one insert each.
CREATE OR REPLACE FUNCTION fleet.tell_decision(settled fleet.conflicts, sender text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    party text;
    told jsonb := '[]';
BEGIN
    FOR party IN
        SELECT p.name FROM (SELECT c->>'worker' AS name FROM jsonb_array_elements(settled.contenders) c UNION SELECT settled.asked_by) p
        WHERE p.name <> sender AND (EXISTS (SELECT 1 FROM fleet.workers w WHERE w.name = p.name)
            OR EXISTS (SELECT 1 FROM fleet.incarnations i WHERE i.worker = p.name))
        ORDER BY p.name
    LOOP
        PERFORM fleet.post_message(sender, 'CONFLICT_RESOLUTION', 'worker', party, jsonb_build_object('kind', 'decision',
            'conflict', settled.id::text, 'thing', settled.thing, 'state', settled.state, 'strategy', settled.strategy,
            'winner', settled.winner, 'grants', settled.grants, 'reason', settled.reason), NULL, NULL,
            'conflict:' || settled.id || ':' || settled.state);
        told := told || to_jsonb(party);
    END LOOP;
    RETURN told;
END $$;

-- A person decides what nothing else could. Audited, told to all parties, and its alert is taken back, in one flushed transaction; locks
-- the conflict's row. FL001 for a winner that doesn't contend, FL005 where it is decided.
CREATE OR REPLACE FUNCTION fleet.decide_conflict(conflict bigint, winner text, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    open fleet.conflicts;
    at timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT * INTO open FROM fleet.conflicts c WHERE c.id = decide_conflict.conflict FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('conflict', decide_conflict.conflict::text, 'the id of a conflict');
    END IF;
    IF open.state <> 'open' THEN
        RAISE EXCEPTION 'conflict % is decided: %', open.id, open.reason
            USING ERRCODE = 'FL005', DETAIL = json_build_object('conflict', open.id::text, 'state', open.state),
            HINT = 'what is decided stays';
    END IF;
    IF winner IS NULL OR NOT EXISTS (SELECT 1 FROM jsonb_array_elements(open.contenders) c WHERE c->>'worker' = decide_conflict.winner) THEN
        PERFORM fleet.refuse('winner', winner, 'one of ' || (SELECT string_agg(c->>'worker', ', ' ORDER BY c->>'worker')
            FROM jsonb_array_elements(open.contenders) c));
    END IF;
    PERFORM fleet.write_audit(actor, 'decide_conflict', open.id::text, decide_conflict.reason,
        jsonb_build_object('thing', open.thing, 'winner', winner));
    at := fleet.now();
    UPDATE fleet.conflicts c SET state = 'decided', winner = decide_conflict.winner, reason = left(decide_conflict.reason, 1000),
        decided_by = left(actor, 200), decided_at = at,
        took_s = extract(epoch FROM at - c.asked_at) / coalesce((SELECT k.rate FROM fleet.clock k), 1)
    WHERE c.id = open.id RETURNING * INTO open;
    PERFORM fleet.clear_alert('conflict:' || open.id);
    RETURN fleet.show_conflict(open) || jsonb_build_object('wake', fleet.tell_decision(open, 'coordination'));
END $$;
