-- Parts of commands: what each asks of one slot, who takes it and when, how a canary is judged, and what all of them come to.

-- What an earlier command still wants of these slots is over: a later one wants something else. Reading logs wants nothing.
CREATE OR REPLACE FUNCTION fleet.supersede(command bigint, targets jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    steering constant text[] := ARRAY['start', 'stop', 'restart', 'drain'];
    pausing constant text[] := ARRAY['pause', 'resume'];
    other bigint;
BEGIN
    FOR other IN SELECT c.id FROM fleet.commands c WHERE c.state IN ('pending', 'running') AND c.id <> supersede.command
        ORDER BY c.id FOR UPDATE
    LOOP
        UPDATE fleet.command_parts p SET state = 'superseded', finished_at = clock_timestamp(),
            result = 'superseded by command ' || supersede.command
        FROM jsonb_to_recordset(supersede.targets) AS t(worker text, slot integer, action text)
        WHERE p.command = other AND p.worker = t.worker AND p.slot = t.slot AND p.state IN ('waiting', 'running', 'watching')
          AND (p.action = ANY(steering) AND t.action = ANY(steering) OR p.action = ANY(pausing) AND t.action = ANY(pausing));
        IF FOUND THEN
            PERFORM fleet.settle_command(other);
        END IF;
    END LOOP;
END $$;

-- A host takes the parts whose turn it is and whose slots it has, with their commands: rows of a command before those of its parts, as
-- everywhere. Each is taken by one host. One that is about what leaves its host waits until that was taken from it: another host's pass may
-- be on its way, which has not seen the order yet.
CREATE OR REPLACE FUNCTION fleet.take_parts(host text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    begun bigint[];
BEGIN
    IF NOT EXISTS (SELECT 1 FROM fleet.command_parts p WHERE p.state = 'waiting') THEN
        RETURN;
    END IF;
    -- In a statement of its own: whose slots are whose is read once no other host's pass is in the middle of moving them.
    PERFORM 1 FROM fleet.commands c WHERE c.state IN ('pending', 'running')
      AND EXISTS (SELECT 1 FROM fleet.command_parts p WHERE p.command = c.id AND p.state = 'waiting')
    ORDER BY c.id FOR UPDATE;
    WITH mine AS MATERIALIZED (
        SELECT p.id FROM fleet.command_parts p
        JOIN fleet.commands c ON c.id = p.command AND c.state IN ('pending', 'running') AND c.expires_at > clock_timestamp()
        LEFT JOIN fleet.slots s ON s.worker = p.worker AND s.slot = p.slot
        WHERE p.state = 'waiting' AND CASE WHEN p.pinned
                THEN p.host = take_parts.host AND (s.host IS DISTINCT FROM p.host OR s.leaving IS NOT NULL)
                ELSE s.host = take_parts.host AND s.leaving IS NULL END
          AND (coalesce(c.args->>'strategy', 'at_once') = 'at_once' OR NOT EXISTS (SELECT 1 FROM fleet.command_parts o
              WHERE o.command = p.command AND o.ordinal < p.ordinal AND o.state <> 'done'))
        ORDER BY p.command, p.id LIMIT 200 FOR UPDATE OF c, p),
    taken AS (
        UPDATE fleet.command_parts p SET state = 'running', host = take_parts.host, taken_at = clock_timestamp()
        FROM mine WHERE p.id = mine.id RETURNING p.command)
    SELECT array_agg(DISTINCT t.command) INTO begun FROM taken t;
    UPDATE fleet.commands c SET state = 'running', taken_at = coalesce(c.taken_at, clock_timestamp())
    WHERE c.state = 'pending' AND c.id = ANY(begun);
END $$;

-- The host that took a part says what came of it; of an output the last 64 kB stay. A canary's first part is watched before it counts.
-- What is over already stays as it is. Flushed.
CREATE OR REPLACE FUNCTION fleet.finish_part(host text, part bigint, succeeded boolean, result text, output text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    told fleet.command_parts;
    asked fleet.commands;
    watched boolean;
    real timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT * INTO asked FROM fleet.commands c
    WHERE c.id = (SELECT p.command FROM fleet.command_parts p WHERE p.id = finish_part.part) FOR UPDATE;
    SELECT * INTO told FROM fleet.command_parts p WHERE p.id = finish_part.part AND p.host = finish_part.host
        AND p.state = 'running' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    real := clock_timestamp();
    watched := finish_part.succeeded AND told.ordinal = 1 AND asked.args->>'strategy' = 'canary';
    UPDATE fleet.command_parts p SET result = left(finish_part.result, 1000), output = right(finish_part.output, 65536),
        state = CASE WHEN watched THEN 'watching' WHEN finish_part.succeeded THEN 'done' ELSE 'failed' END,
        watch_from = CASE WHEN watched THEN real END,
        watch_until = CASE WHEN watched THEN real + make_interval(secs => coalesce((asked.args->>'watch_s')::double precision, 60)) END,
        finished_at = CASE WHEN NOT watched THEN real END
    WHERE p.id = told.id;
    PERFORM fleet.settle_command(told.command);
END $$;

-- The host that took a part says how far it is. Not flushed.
CREATE OR REPLACE FUNCTION fleet.tell_part(host text, part bigint, result text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE fleet.command_parts p SET result = left(tell_part.result, 1000)
    WHERE p.id = tell_part.part AND p.host = tell_part.host AND p.state = 'running';
END $$;

-- Moves open commands on: times out, gives back what a host took whose slot went elsewhere, judges canaries, ends what is over. Under
-- the shares' lock, which the caller holds. One look at an index where no command is open.
CREATE OR REPLACE FUNCTION fleet.move_commands_on() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    asked fleet.commands;
    watched fleet.command_parts;
    fault text;
    real timestamptz;
BEGIN
    FOR asked IN SELECT * FROM fleet.commands c WHERE c.state IN ('pending', 'running') ORDER BY c.id FOR UPDATE LOOP
        real := clock_timestamp();
        -- What leaves a host is drained when nothing of it is left there.
        UPDATE fleet.command_parts p SET state = 'done', finished_at = real,
            result = coalesce('it runs on ' || s.host || ' now', 'nothing of it runs any more')
        FROM fleet.command_parts q LEFT JOIN fleet.slots s ON s.worker = q.worker AND s.slot = q.slot
        WHERE p.id = q.id AND p.command = asked.id AND p.pinned AND p.state IN ('waiting', 'running')
          AND s.host IS DISTINCT FROM p.host AND s.leaving IS DISTINCT FROM p.host;
        -- What asks for more than an end, or for what is on that host's disk, is the next host's as soon as the slot leaves.
        UPDATE fleet.command_parts p SET state = 'waiting', host = NULL, result = NULL
        FROM fleet.slots s WHERE p.command = asked.id AND p.state = 'running' AND NOT p.pinned
          AND s.worker = p.worker AND s.slot = p.slot AND s.host IS DISTINCT FROM p.host
          AND (s.leaving IS DISTINCT FROM p.host OR p.action NOT IN ('stop', 'drain', 'logs'));
        FOR watched IN SELECT * FROM fleet.command_parts p WHERE p.command = asked.id AND p.state = 'watching' LOOP
            fault := fleet.judge_canary(watched);
            IF fault IS NOT NULL OR watched.watch_until <= real THEN
                PERFORM set_config('synchronous_commit', 'on', true);
                UPDATE fleet.command_parts p SET state = CASE WHEN fault IS NULL THEN 'done' ELSE 'failed' END, finished_at = real,
                    result = coalesce(fault, p.result || '; as good as before') WHERE p.id = watched.id;
            END IF;
        END LOOP;
        IF asked.expires_at <= real THEN
            UPDATE fleet.command_parts p SET state = 'timed_out', finished_at = real,
                result = CASE WHEN p.state = 'waiting' AND p.taken_at IS NULL AND NOT EXISTS (SELECT 1 FROM fleet.slots s
                        JOIN fleet.hosts h ON h.name = s.host WHERE s.worker = p.worker AND s.slot = p.slot AND h.state = 'live')
                    THEN 'no live host has it: socialfleet status says why'
                    ELSE 'not done in time' || coalesce(': ' || p.result, '') END
            WHERE p.command = asked.id AND p.state IN ('waiting', 'running', 'watching');
        END IF;
        PERFORM fleet.settle_command(asked.id);
    END LOOP;
END $$;

-- What is wrong with a watched slot; null while nothing is. It is judged by what happened since it came up, against its siblings in the
-- same time, or, where it has none that worked, against itself in ten such times before. Reads the runs of one worker.
CREATE OR REPLACE FUNCTION fleet.judge_canary(part fleet.command_parts) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now_state fleet.slots;
    ends integer;
    others double precision;
    mine record;
    base record;
    measure text := 'its siblings''';
BEGIN
    SELECT * INTO now_state FROM fleet.slots s WHERE s.worker = part.worker AND s.slot = part.slot;
    IF now_state.state IN ('BACKOFF', 'CRASH_LOOP', 'STALLED') THEN
        RETURN format('%s/%s is %s: %s', part.worker, part.slot, now_state.state, now_state.reason);
    END IF;
    SELECT count(*) INTO ends FROM fleet.process_ends e WHERE e.worker = part.worker AND e.slot = part.slot
        AND e.ended_at > part.watch_from AND e.exit_code IS DISTINCT FROM 0;
    SELECT max(n) INTO others FROM (SELECT count(*) AS n FROM fleet.process_ends e WHERE e.worker = part.worker AND e.slot <> part.slot
        AND e.ended_at > part.watch_from AND e.exit_code IS DISTINCT FROM 0 GROUP BY e.slot) o;
    IF ends > coalesce(others, 0) THEN
        RETURN format('%s/%s ended %s times since it was restarted, its siblings at most %s times', part.worker, part.slot, ends,
            coalesce(others, 0));
    END IF;
    SELECT count(*) AS runs, count(*) FILTER (WHERE r.outcome <> 'done') AS failed INTO mine FROM fleet.runs r
    WHERE r.worker = part.worker AND r.slot = part.slot AND r.started_real_at >= part.watch_from AND r.outcome <> 'running';
    SELECT count(*) AS runs, count(*) FILTER (WHERE r.outcome <> 'done') AS failed INTO base FROM fleet.runs r
    WHERE r.worker = part.worker AND r.slot <> part.slot AND r.started_real_at >= part.watch_from AND r.outcome <> 'running';
    IF base.runs = 0 THEN
        measure := 'its own before';
        SELECT count(*) AS runs, count(*) FILTER (WHERE r.outcome <> 'done') AS failed INTO base FROM fleet.runs r
        WHERE r.worker = part.worker AND r.slot = part.slot AND r.started_real_at < part.taken_at AND r.outcome <> 'running'
          AND r.started_real_at >= part.taken_at - 10 * (part.watch_until - part.watch_from);
    END IF;
    -- One failed run says little; two that lift the share by a fifth do.
    IF mine.failed >= 2 AND mine.failed::double precision / mine.runs
        > coalesce(base.failed::double precision / nullif(base.runs, 0), 0) + 0.2 THEN
        RETURN format('%s of %s runs of %s/%s failed, of %s %s of %s', mine.failed, mine.runs, part.worker, part.slot, measure,
            base.failed, base.runs);
    END IF;
    RETURN NULL;
END $$;

-- Skips what a failed part of a rolling restart leaves, and says what a command without open parts came to. Inside its caller's
-- transaction; takes the command's row.
CREATE OR REPLACE FUNCTION fleet.settle_command(command bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    asked fleet.commands;
    one record;
    is_rolling boolean;
BEGIN
    SELECT * INTO asked FROM fleet.commands c WHERE c.id = settle_command.command FOR UPDATE;
    IF NOT FOUND OR asked.state NOT IN ('pending', 'running') THEN
        RETURN;
    END IF;
    is_rolling := coalesce(asked.args->>'strategy', 'at_once') <> 'at_once';
    IF is_rolling THEN
        UPDATE fleet.command_parts p SET state = 'skipped', finished_at = clock_timestamp(), result = format('left as it was: %s/%s %s',
            f.worker, f.slot, f.state)
        FROM (SELECT * FROM fleet.command_parts q WHERE q.command = asked.id AND q.state IN ('failed', 'timed_out', 'superseded')
            ORDER BY q.ordinal LIMIT 1) f
        WHERE p.command = asked.id AND p.state = 'waiting';
    END IF;
    SELECT count(*) AS parts, count(*) FILTER (WHERE p.state IN ('waiting', 'running', 'watching')) AS open,
        count(*) FILTER (WHERE p.state = 'done') AS done, count(*) FILTER (WHERE p.state = 'skipped') AS skipped,
        count(*) FILTER (WHERE p.state = 'timed_out') AS timed_out,
        string_agg(CASE WHEN p.result ~ ('^' || p.worker || '/' || p.slot) THEN p.result
            ELSE p.worker || '/' || p.slot || ': ' || coalesce(p.result, p.state) END, ', ' ORDER BY p.ordinal) AS told
    INTO one FROM fleet.command_parts p WHERE p.command = asked.id;
    IF one.open > 0 THEN
        RETURN;
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE fleet.commands c SET finished_at = clock_timestamp(), result = fleet.shorten(coalesce(one.told, asked.result, 'nothing had to be done'), 4000),
        state = CASE WHEN one.done = one.parts THEN 'done' WHEN is_rolling AND one.skipped > 0 THEN 'aborted'
            WHEN one.done > 0 THEN 'partial' WHEN one.timed_out > 0 THEN 'timed_out' ELSE 'failed' END
    WHERE c.id = asked.id;
END $$;
