-- The cache: what can be computed again, kept for a while in real time. Unlogged: a crash of the server empties it, and nothing is flushed.
-- One process computes a missing value under a lease; the others take the stale one or wait for it.

-- FL001 unless the two can name a cached value. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_cache_key(namespace text, key text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF namespace IS NULL OR namespace !~ '^[a-z][a-z0-9_.-]{0,62}$' THEN
        PERFORM fleet.refuse('namespace', namespace, 'a lower-case name of 1 to 63 letters, digits and _.-');
    END IF;
    IF key IS NULL OR length(key) NOT BETWEEN 1 AND 500 THEN
        PERFORM fleet.refuse('key', key, '1 to 500 characters');
    END IF;
END $$;

-- FL001 unless a value may be kept for so long. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_cache_s(field text, seconds double precision, lowest double precision) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF seconds IS NULL OR NOT (seconds >= lowest AND seconds <= 2678400) THEN
        PERFORM fleet.refuse(field, seconds::text, format('from %s to 2678400 real seconds', lowest));
    END IF;
END $$;

-- Counts what happened to a namespace, in the caller's stripe, so that processes don't wait for one another; gives how much this stripe has
-- stored. One update of a small row.
CREATE OR REPLACE FUNCTION fleet.count_cache(
    namespace text, hits integer DEFAULT 0, stale_hits integer DEFAULT 0, misses integer DEFAULT 0, stores integer DEFAULT 0
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stored bigint;
BEGIN
    INSERT INTO fleet.cache_counts AS c (namespace, stripe, hits, stale_hits, misses, stores)
    VALUES (count_cache.namespace, pg_backend_pid() % 16, count_cache.hits, count_cache.stale_hits, count_cache.misses, count_cache.stores)
    ON CONFLICT ON CONSTRAINT cache_counts_pkey DO UPDATE SET hits = c.hits + excluded.hits,
        stale_hits = c.stale_hits + excluded.stale_hits, misses = c.misses + excluded.misses, stores = c.stores + excluded.stores
    RETURNING c.stores INTO stored;
    RETURN stored;
END $$;

-- Fresh values among keys of a namespace, as {"key": value}; what is absent is missing. Locks no value; counts hits and misses.
CREATE OR REPLACE FUNCTION fleet.get_many_cached(incarnation uuid, namespace text, keys text[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    found jsonb;
    hits integer;
    asked integer;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fleet.require_cache_key(get_many_cached.namespace, 'any');
    asked := (SELECT count(DISTINCT k) FROM unnest(keys) k);
    IF keys IS NULL OR asked > 1000 THEN
        PERFORM fleet.refuse('keys', asked::text, 'at most 1000 keys');
    END IF;
    SELECT coalesce(jsonb_object_agg(c.key, c.value), '{}'), count(*) INTO found, hits FROM fleet.cache c
    WHERE c.namespace = get_many_cached.namespace AND c.key = ANY(keys) AND c.value IS NOT NULL AND c.expires_at > clock_timestamp();
    IF asked > 0 THEN
        PERFORM fleet.count_cache(get_many_cached.namespace, hits => hits, misses => asked - hits);
    END IF;
    RETURN found;
END $$;

-- One fresh value as {"hit", "value"}. Locks no value; one row read, and a count.
CREATE OR REPLACE FUNCTION fleet.get_cached(incarnation uuid, namespace text, key text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    known fleet.cache;
    is_hit boolean;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fleet.require_cache_key(get_cached.namespace, get_cached.key);
    SELECT * INTO known FROM fleet.cache c WHERE c.namespace = get_cached.namespace AND c.key = get_cached.key;
    is_hit := coalesce(known.value IS NOT NULL AND known.expires_at > clock_timestamp(), false);
    PERFORM fleet.count_cache(get_cached.namespace, hits => is_hit::integer, misses => 1 - is_hit::integer);
    RETURN jsonb_build_object('hit', is_hit, 'value', CASE WHEN is_hit THEN known.value END);
END $$;

-- Keeps a value for ttl_s, and stale_s longer for who asks while it is computed anew. With a token only under that lease: whose was
-- passed on stores nothing. One upsert; at times what is over, and what is above the limit, goes with it. Whether it was stored.
CREATE OR REPLACE FUNCTION fleet.put_cached(
    incarnation uuid, namespace text, key text, value jsonb, ttl_s double precision, stale_s double precision DEFAULT 0,
    token bigint DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    real timestamptz;
    size integer;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_cache_key(put_cached.namespace, put_cached.key);
    PERFORM fleet.require_shared_value(put_cached.value);
    PERFORM fleet.require_cache_s('ttl_s', put_cached.ttl_s, 0.001);
    PERFORM fleet.require_cache_s('stale_s', put_cached.stale_s, 0);
    size := octet_length(put_cached.value::text);
    IF put_cached.token IS NOT NULL THEN
        PERFORM 1 FROM fleet.cache c WHERE c.namespace = put_cached.namespace AND c.key = put_cached.key
          AND c.computing_token = put_cached.token FOR UPDATE;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    real := clock_timestamp();
    INSERT INTO fleet.cache (namespace, key, value, bytes, stored_at, expires_at, stale_until)
    VALUES (put_cached.namespace, put_cached.key, put_cached.value, size, real, real + make_interval(secs => ttl_s),
        real + make_interval(secs => ttl_s + stale_s))
    ON CONFLICT ON CONSTRAINT cache_pkey DO UPDATE SET value = excluded.value, bytes = excluded.bytes, stored_at = excluded.stored_at,
        expires_at = excluded.expires_at, stale_until = excluded.stale_until, computing_by = NULL, computing_token = NULL,
        computing_until = NULL;
    IF fleet.count_cache(put_cached.namespace, stores => 1) % 50 = 0 THEN
        PERFORM fleet.evict_cached(real);
    END IF;
    RETURN true;
END $$;

-- Removes what is over, and of what is above cache_max_entries that which would be over first; nothing that is computed now, or a second
-- one would compute it. One caller at a time, who passes over what others hold, so that it waits for nobody. The limit may be exceeded by what 16 stripes store between two such calls (800).
CREATE OR REPLACE FUNCTION fleet.evict_cached(at_real timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    surplus bigint;
    evicted integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock(fleet.lock_key('cache', 'evict')) THEN
        RETURN 0;
    END IF;
    WITH old AS MATERIALIZED (SELECT c.ctid FROM fleet.cache c WHERE c.stale_until <= at_real AND coalesce(c.computing_until <= at_real, true)
        ORDER BY c.stale_until LIMIT 1000 FOR UPDATE SKIP LOCKED)
    DELETE FROM fleet.cache c USING old WHERE c.ctid = old.ctid;
    surplus := (SELECT count(*) FROM fleet.cache) - fleet.setting_number('cache_max_entries', 10000)::bigint;
    IF surplus <= 0 THEN
        RETURN 0;
    END IF;
    -- Counted in a stripe that no reader has: who holds the lock above is alone there.
    WITH first AS MATERIALIZED (SELECT c.ctid FROM fleet.cache c WHERE coalesce(c.computing_until <= at_real, true)
        ORDER BY c.stale_until LIMIT surplus FOR UPDATE SKIP LOCKED),
    deleted AS (DELETE FROM fleet.cache c USING first WHERE c.ctid = first.ctid RETURNING c.namespace),
    counted AS (INSERT INTO fleet.cache_counts AS n (namespace, stripe, evictions)
        SELECT d.namespace, 16, count(*) FROM deleted d GROUP BY d.namespace ORDER BY d.namespace
        ON CONFLICT ON CONSTRAINT cache_counts_pkey DO UPDATE SET evictions = n.evictions + excluded.evictions RETURNING 1)
    SELECT count(*) INTO evicted FROM deleted;
    RETURN evicted;
END $$;

-- Removes one value, or every value of a namespace whose key begins with a prefix; gives how many. Who computes one of them meanwhile
-- stores nothing. Locks the rows that go.
CREATE OR REPLACE FUNCTION fleet.drop_cached(incarnation uuid, namespace text, key text DEFAULT NULL, prefix text DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    dropped integer;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_cache_key(drop_cached.namespace, coalesce(drop_cached.key, 'any'));
    IF (drop_cached.key IS NULL) = (drop_cached.prefix IS NULL) THEN
        PERFORM fleet.refuse('key', drop_cached.key, 'either a key or a prefix');
    END IF;
    PERFORM 1 FROM fleet.cache c WHERE c.namespace = drop_cached.namespace AND (c.key = drop_cached.key OR starts_with(c.key, drop_cached.prefix))
    ORDER BY c.key FOR UPDATE;
    DELETE FROM fleet.cache c WHERE c.namespace = drop_cached.namespace AND (c.key = drop_cached.key OR starts_with(c.key, drop_cached.prefix));
    GET DIAGNOSTICS dropped = ROW_COUNT;
    RETURN dropped;
END $$;

-- A value, or the task to compute it: {"found": hit|stale|compute|wait, "value", "token", "wait_s"}. One caller a key is told to compute and
-- has the lease for lease_s; until it stores, gives up, dies or is late the others get the stale value, or are told to wait. A hit locks
-- no value; else the key's row is taken.
CREATE OR REPLACE FUNCTION fleet.begin_cached(incarnation uuid, namespace text, key text, lease_s double precision, waits boolean DEFAULT false)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    known fleet.cache;
    given bigint;
    real timestamptz;
    is_free boolean;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_cache_key(begin_cached.namespace, begin_cached.key);
    PERFORM fleet.require_lease_s(begin_cached.lease_s);
    SELECT * INTO known FROM fleet.cache c WHERE c.namespace = begin_cached.namespace AND c.key = begin_cached.key;
    IF known.value IS NOT NULL AND known.expires_at > clock_timestamp() THEN
        PERFORM fleet.count_cache(begin_cached.namespace, hits => 1);
        RETURN jsonb_build_object('found', 'hit', 'value', known.value, 'token', NULL, 'wait_s', NULL);
    END IF;
    real := clock_timestamp();
    INSERT INTO fleet.cache (namespace, key, bytes, expires_at, stale_until)
    VALUES (begin_cached.namespace, begin_cached.key, 0, real, real + make_interval(secs => lease_s))
    ON CONFLICT ON CONSTRAINT cache_pkey DO NOTHING;
    SELECT * INTO known FROM fleet.cache c WHERE c.namespace = begin_cached.namespace AND c.key = begin_cached.key FOR UPDATE;
    real := clock_timestamp();
    IF known.value IS NOT NULL AND known.expires_at > real THEN
        PERFORM fleet.count_cache(begin_cached.namespace, hits => 1);
        RETURN jsonb_build_object('found', 'hit', 'value', known.value, 'token', NULL, 'wait_s', NULL);
    END IF;
    is_free := coalesce(known.computing_until <= real, true);
    IF NOT is_free AND known.computing_by <> incarnation THEN
        is_free := fleet.is_suspected(known.computing_by);
    END IF;
    IF is_free THEN
        given := nextval('fleet.cache_token');
        UPDATE fleet.cache c SET computing_by = begin_cached.incarnation, computing_token = given,
            computing_until = real + make_interval(secs => lease_s),
            -- What is past its stale time is nobody's any more.
            value = CASE WHEN c.stale_until > real THEN c.value END, bytes = CASE WHEN c.stale_until > real THEN c.bytes ELSE 0 END,
            stale_until = greatest(c.stale_until, real + make_interval(secs => lease_s))
        WHERE c.namespace = known.namespace AND c.key = known.key;
        PERFORM fleet.count_cache(begin_cached.namespace, misses => 1);
        RETURN jsonb_build_object('found', 'compute', 'value', NULL, 'token', given, 'wait_s', NULL);
    END IF;
    IF known.value IS NOT NULL AND known.stale_until > real THEN
        PERFORM fleet.count_cache(begin_cached.namespace, stale_hits => 1);
        RETURN jsonb_build_object('found', 'stale', 'value', known.value, 'token', NULL, 'wait_s', NULL);
    END IF;
    IF NOT waits THEN
        PERFORM fleet.count_cache(begin_cached.namespace, misses => 1);
    END IF;
    RETURN jsonb_build_object('found', 'wait', 'value', NULL, 'token', NULL,
        'wait_s', extract(epoch FROM known.computing_until - real));
END $$;

-- Who was to compute a value could not: the next one may try. Gives whether the lease was still its own, and the stale value where one
-- is asked for and there. Takes the key's row.
CREATE OR REPLACE FUNCTION fleet.give_up_cached(incarnation uuid, namespace text, key text, token bigint, wants_stale boolean DEFAULT false)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    known fleet.cache;
    is_stale boolean;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM fleet.require_incarnation(incarnation);
    UPDATE fleet.cache c SET computing_by = NULL, computing_token = NULL, computing_until = NULL
    WHERE c.namespace = give_up_cached.namespace AND c.key = give_up_cached.key AND c.computing_token = give_up_cached.token
    RETURNING * INTO known;
    is_stale := wants_stale IS TRUE AND known.value IS NOT NULL;
    IF is_stale THEN
        PERFORM fleet.count_cache(give_up_cached.namespace, stale_hits => 1);
    END IF;
    RETURN jsonb_build_object('held', known.key IS NOT NULL, 'stale', is_stale, 'value', CASE WHEN is_stale THEN known.value END);
END $$;

-- Each namespace: entries, bytes, hits, stale hits, misses, stores, evictions and the share of hits since the counts began. Reads the cache
-- and its counts once; locks nothing.
CREATE OR REPLACE FUNCTION fleet.get_cache_status(incarnation uuid DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT jsonb_agg(jsonb_build_object('namespace', n.namespace, 'entries', coalesce(e.entries, 0),
            'bytes', coalesce(e.bytes, 0), 'computing', coalesce(e.computing, 0), 'hits', n.hits, 'stale_hits', n.stale_hits,
            'misses', n.misses, 'stores', n.stores, 'evictions', n.evictions,
            'hit_rate', round((n.hits + n.stale_hits)::numeric / nullif(n.hits + n.stale_hits + n.misses, 0), 4)) ORDER BY n.namespace)
        FROM (SELECT c.namespace, sum(c.hits) AS hits, sum(c.stale_hits) AS stale_hits, sum(c.misses) AS misses, sum(c.stores) AS stores,
                sum(c.evictions) AS evictions FROM fleet.cache_counts c GROUP BY c.namespace) n
        LEFT JOIN (SELECT c.namespace, count(*) FILTER (WHERE c.value IS NOT NULL) AS entries, sum(c.bytes) AS bytes,
                count(*) FILTER (WHERE c.computing_until > clock_timestamp()) AS computing FROM fleet.cache c GROUP BY c.namespace) e
            USING (namespace)), '[]');
END $$;
