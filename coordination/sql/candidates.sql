-- Candidates: the pool of posts worth engaging with, each with every part of its score. waiting -> taken -> proposed or
-- passed; what is too much, too old or too weak is given up. Nothing that was decided comes back to life.

-- The act that the fleet has under way or done on a post for the account; null when there is none. Locks nothing; reads along
-- the index that keeps acts unique.
CREATE OR REPLACE FUNCTION fleet.act_on(account text, platform_id text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT min(i.id) FROM fleet.intents i
        WHERE i.account = act_on.account AND i.action IN ('reply', 'quote', 'like') AND i.target = act_on.platform_id
          AND i.state NOT IN ('rejected', 'expired', 'cancelled', 'dry_run'));
END $$;

-- Puts finds into the pool. A post that waits already is scored anew, a decided one stays as it is; the fleet's own posts and
-- those of people who opted out stay outside whoever offers them. What a find names under "replaces" (weaker near-duplicates)
-- and what is beyond pool_size is given up. One offer at a time for an account.
CREATE OR REPLACE FUNCTION fleet.offer_candidates(incarnation uuid, account text, finds jsonb, pool_size integer) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET plan_cache_mode = force_generic_plan AS $$  -- to plan it anew takes longer than to run it (ADR-0052)
#variable_conflict use_column
DECLARE
    at timestamptz;
    find record;
    owner fleet.accounts;
    was_added boolean;
    counts jsonb := '{"added": 0, "refreshed": 0, "known": 0, "fleet": 0, "opted_out": 0, "given_up": 0}';
    outcome text;
    moved integer;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    IF jsonb_typeof(finds) IS DISTINCT FROM 'array' OR jsonb_array_length(finds) > 2000 THEN
        PERFORM fleet.refuse('finds', left(finds::text, 100), 'a JSON array of at most 2000 finds');
    END IF;
    IF pool_size IS NULL OR pool_size NOT BETWEEN 1 AND 100000 THEN
        PERFORM fleet.refuse('pool_size', pool_size::text, 'a whole number from 1 to 100000');
    END IF;
    SELECT * INTO owner FROM fleet.accounts a WHERE a.name = offer_candidates.account;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('account', offer_candidates.account, 'the name of an account that is there');
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('pool', owner.name));
    at := fleet.now();
    FOR find IN
        SELECT * FROM jsonb_to_recordset(finds) f (platform_id text, author_id text, handle text, text text, topic text,
            origin text, posted_at timestamptz, metrics jsonb, score double precision, parts jsonb, replaces text[])
    LOOP
        IF find.platform_id IS NULL OR find.platform_id !~ '^[0-9]{1,19}$' THEN
            PERFORM fleet.refuse('platform_id', find.platform_id, 'the id of a post: 1 to 19 digits');
        END IF;
        IF find.score IS NULL OR NOT (find.score BETWEEN 0 AND 100) THEN
            PERFORM fleet.refuse('score', find.score::text, 'a number from 0 to 100');
        END IF;
        IF EXISTS (SELECT 1 FROM fleet.accounts a
            WHERE a.platform = owner.platform AND a.platform_user_id = find.author_id) THEN
            outcome := 'fleet';
        ELSIF EXISTS (SELECT 1 FROM fleet.opt_outs o
            WHERE o.platform = owner.platform AND o.author_id = find.author_id) THEN
            outcome := 'opted_out';
        ELSIF fleet.act_on(owner.name, find.platform_id) IS NOT NULL THEN
            outcome := 'known';
        ELSE
            INSERT INTO fleet.candidates AS c (account, platform_id, author_id, handle, text, topic, origin, posted_at,
                found_at, scored_at, metrics, score, parts, state)
            VALUES (owner.name, find.platform_id, find.author_id, find.handle, find.text, find.topic, find.origin,
                find.posted_at, at, at, find.metrics, find.score, find.parts, 'waiting')
            ON CONFLICT ON CONSTRAINT candidates_pkey DO UPDATE SET handle = excluded.handle, text = excluded.text,
                topic = excluded.topic, scored_at = excluded.scored_at, metrics = excluded.metrics, score = excluded.score,
                parts = excluded.parts
            WHERE c.state = 'waiting'
            RETURNING xmax = 0 INTO was_added;
            outcome := CASE WHEN NOT FOUND THEN 'known' WHEN was_added THEN 'added' ELSE 'refreshed' END;
            IF outcome <> 'known' THEN
                UPDATE fleet.candidates c SET state = 'given_up', decided_at = at,
                    reason = 'a near-duplicate of ' || find.platform_id || ', which scores higher'
                WHERE c.account = owner.name AND c.platform_id = ANY(find.replaces) AND c.platform_id <> find.platform_id
                  AND c.state = 'waiting';
                GET DIAGNOSTICS moved = ROW_COUNT;
                counts := jsonb_set(counts, '{given_up}', to_jsonb((counts->>'given_up')::integer + moved));
            END IF;
        END IF;
        counts := jsonb_set(counts, ARRAY[outcome], to_jsonb((counts->>outcome)::integer + 1));
    END LOOP;
    UPDATE fleet.candidates c SET state = 'given_up', decided_at = at,
        reason = format('the pool of %s is full of higher scores', pool_size)
    WHERE c.account = owner.name AND c.state = 'waiting' AND c.platform_id IN (
        SELECT o.platform_id FROM fleet.candidates o WHERE o.account = owner.name AND o.state = 'waiting'
        ORDER BY o.score DESC, o.platform_id OFFSET pool_size);
    GET DIAGNOSTICS moved = ROW_COUNT;
    RETURN jsonb_set(counts, '{given_up}', to_jsonb((counts->>'given_up')::integer + moved));
END $$;

-- What is taken by the dead, or past its lease, goes back; where the dead had proposed an act already, it is proposed. Skips
-- what others hold. Reads what is taken: a batch a worker.
CREATE OR REPLACE FUNCTION fleet.free_candidates(incarnation uuid, account text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held fleet.candidates;
    act bigint;
BEGIN
    FOR held IN
        SELECT * FROM fleet.candidates c WHERE c.account = free_candidates.account AND c.state = 'taken'
        ORDER BY c.platform_id FOR UPDATE SKIP LOCKED
    LOOP
        IF held.taken_until < clock_timestamp() OR (held.taken_by <> free_candidates.incarnation
            AND fleet.is_suspected(held.taken_by)) THEN
            act := fleet.act_on(held.account, held.platform_id);
            UPDATE fleet.candidates c SET state = CASE WHEN act IS NULL THEN 'waiting' ELSE 'proposed' END, intent = act,
                reason = 'its worker ended or ran out of its lease', taken_by = NULL, taken_until = NULL,
                decided_at = CASE WHEN act IS NOT NULL THEN fleet.now() END
            WHERE c.account = held.account AND c.platform_id = held.platform_id;
        END IF;
    END LOOP;
END $$;

-- Takes the n best that wait, at or above min_score; they are the caller's for lease_s of real time. What the fleet acts on
-- already by another way is passed over for good. Flushed: two workers never hold one candidate.
CREATE OR REPLACE FUNCTION fleet.take_candidates(
    incarnation uuid, account text, n integer, lease_s double precision DEFAULT 300, min_score double precision DEFAULT 0
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    taken_ones jsonb := '[]';
    best jsonb;
    picked_number integer;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    PERFORM fleet.require_lease_s(lease_s);
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM fleet.free_candidates(incarnation, account);
    LOOP
        WITH picked AS MATERIALIZED (
            SELECT c.platform_id, fleet.act_on(c.account, c.platform_id) AS act FROM fleet.candidates c
            WHERE c.account = take_candidates.account AND c.state = 'waiting' AND c.score >= coalesce(min_score, 0)
            ORDER BY c.score DESC, c.platform_id LIMIT n - jsonb_array_length(taken_ones) FOR UPDATE SKIP LOCKED
        ), moved AS (
            UPDATE fleet.candidates c SET state = CASE WHEN p.act IS NULL THEN 'taken' ELSE 'passed' END,
                taken_by = CASE WHEN p.act IS NULL THEN take_candidates.incarnation END,
                taken_until = CASE WHEN p.act IS NULL THEN clock_timestamp() + make_interval(secs => lease_s) END,
                reason = CASE WHEN p.act IS NOT NULL THEN 'the fleet acts on it already: intent ' || p.act END,
                intent = p.act, decided_at = CASE WHEN p.act IS NOT NULL THEN fleet.now() END
            FROM picked p WHERE c.account = take_candidates.account AND c.platform_id = p.platform_id
            RETURNING c.*
        )
        SELECT coalesce(jsonb_agg(jsonb_build_object('platform_id', m.platform_id, 'author_id', m.author_id, 'handle', m.handle,
            'text', m.text, 'topic', m.topic, 'origin', m.origin, 'posted_at', m.posted_at, 'score', m.score, 'parts', m.parts,
            'metrics', m.metrics) ORDER BY m.score DESC, m.platform_id) FILTER (WHERE m.state = 'taken'), '[]'), count(*)
        INTO best, picked_number FROM moved m;
        taken_ones := taken_ones || best;
        EXIT WHEN picked_number = 0 OR jsonb_array_length(taken_ones) = n;
    END LOOP;
    RETURN taken_ones;
END $$;

-- What became of a taken candidate: proposed (with its intent), passed (with the reason), or waiting again. False when the
-- caller doesn't hold it any more; then nothing is changed. Not flushed: where a crash forgets it, the act is in the ledger.
CREATE OR REPLACE FUNCTION fleet.decide_candidate(
    incarnation uuid, account text, platform_id text, decision text, reason text DEFAULT NULL, intent bigint DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    IF decision IS NULL OR decision NOT IN ('proposed', 'passed', 'waiting') THEN
        PERFORM fleet.refuse('decision', decision, 'proposed, passed or waiting');
    END IF;
    IF (decision = 'proposed') <> (intent IS NOT NULL) THEN
        PERFORM fleet.refuse('intent', intent::text, 'an intent''s id for proposed, and no value otherwise');
    END IF;
    IF decision = 'passed' AND coalesce(length(reason), 0) = 0 THEN
        PERFORM fleet.refuse('reason', reason, 'a sentence that says why');
    END IF;
    UPDATE fleet.candidates c SET state = decision, reason = left(decide_candidate.reason, 1000),
        intent = decide_candidate.intent, taken_by = NULL, taken_until = NULL,
        decided_at = CASE WHEN decision <> 'waiting' THEN fleet.now() END
    WHERE c.account = decide_candidate.account AND c.platform_id = decide_candidate.platform_id AND c.state = 'taken'
      AND c.taken_by = decide_candidate.incarnation;
    RETURN FOUND;
END $$;

-- Gives up what waits and was posted more than max_age_h ago, or scores below min_score. Gives how many of each.
CREATE OR REPLACE FUNCTION fleet.give_up_candidates(
    incarnation uuid, account text, max_age_h double precision DEFAULT 24, min_score double precision DEFAULT 0
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    oldest timestamptz;
    given_up jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    oldest := fleet.hours_ago(max_age_h);
    PERFORM pg_advisory_xact_lock(fleet.lock_key('pool', account));
    WITH moved AS (
        UPDATE fleet.candidates c SET state = 'given_up', decided_at = fleet.now(),
            reason = CASE WHEN c.posted_at < oldest THEN format('posted more than %s h ago', max_age_h)
                ELSE format('scores %s, wanted are %s', round(c.score::numeric, 1), min_score) END
        WHERE c.account = give_up_candidates.account AND c.state = 'waiting'
          AND (c.posted_at < oldest OR c.score < coalesce(min_score, 0))
        RETURNING c.posted_at < oldest AS is_stale
    )
    SELECT jsonb_build_object('stale', count(*) FILTER (WHERE is_stale), 'weak', count(*) FILTER (WHERE NOT is_stale))
    INTO given_up FROM moved;
    RETURN given_up;
END $$;

-- The pool now: how many in each state, the best score and the oldest post that wait; what the calling worker proposed in the
-- last 24 h, an action at a time; with `posts` the texts that a new find may be a copy of. Locks nothing; reads the account's
-- candidates.
CREATE OR REPLACE FUNCTION fleet.get_pool(incarnation uuid, account text, posts boolean DEFAULT false) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    life fleet.incarnations := fleet.require_incarnation(incarnation);
    at timestamptz := fleet.now();
BEGIN
    RETURN jsonb_build_object(
        'now', at,
        'states', (SELECT coalesce(jsonb_object_agg(s.state, s.number), '{}') FROM (
            SELECT c.state, count(*) AS number FROM fleet.candidates c WHERE c.account = get_pool.account GROUP BY c.state) s),
        'best', (SELECT max(c.score) FROM fleet.candidates c WHERE c.account = get_pool.account AND c.state = 'waiting'),
        'oldest', (SELECT min(c.posted_at) FROM fleet.candidates c WHERE c.account = get_pool.account AND c.state = 'waiting'),
        'proposed', (SELECT coalesce(jsonb_object_agg(i.action, i.number), '{}') FROM (
            SELECT i.action, count(*) AS number FROM fleet.intents i
            WHERE i.account = get_pool.account AND i.created_at > at - interval '24 hours' AND i.state <> 'rejected'
              AND starts_with(i.proposed_by, life.worker || '/') GROUP BY i.action) i),
        'posts', (SELECT coalesce(jsonb_agg(jsonb_build_object('platform_id', c.platform_id, 'text', c.text, 'score', c.score,
                'waiting', c.state = 'waiting')), '[]')
            FROM fleet.candidates c WHERE get_pool.posts AND c.account = get_pool.account
              AND (c.state IN ('waiting', 'taken') OR (c.state = 'proposed' AND c.decided_at > at - interval '24 hours'))));
END $$;
