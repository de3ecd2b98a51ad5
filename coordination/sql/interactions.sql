-- Interactions: whoever addressed an account, from being seen to being answered; and how far the mentions were read.
--
-- Mentions come newest first, so what is between the cursor and now may be several pages. A walk goes down through them: its
-- ceiling is the newest mention it met, and it is stored down to `reached`. The cursor moves to the ceiling when the walk has
-- arrived, never before: what is below the cursor is stored.

-- How far a stream was read; before the first reading all is null but `now` (fleet time). Locks nothing; one row read.
CREATE OR REPLACE FUNCTION fleet.get_cursor(incarnation uuid, account text, name text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known fleet.cursors;
BEGIN
    PERFORM fleet.require_incarnation(incarnation);
    SELECT * INTO known FROM fleet.cursors c WHERE c.account = get_cursor.account AND c.name = get_cursor.name;
    RETURN fleet.cursor_as_told(known);
END $$;

CREATE OR REPLACE FUNCTION fleet.cursor_as_told(known fleet.cursors) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object('position', known.position, 'baseline', known.baseline, 'started_at', known.started_at,
        'ceiling', known.ceiling, 'reached', known.reached, 'now', fleet.now());
END $$;

-- FL001 unless the text is a platform id (or null); gives its number. Ids compare as numbers. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.id_number(field text, id text) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF id !~ '^[0-9]{1,19}$' THEN
        PERFORM fleet.refuse(field, id, 'an id of 1 to 19 digits');
    END IF;
    RETURN id::numeric;
END $$;

-- Stores one page of mentions and moves the cursor, in one transaction; what is stored already stays as it is. The first call
-- sets the baseline: the page's newest, and the time before it was read. What is not newer than both is never answered, also
-- when it comes late; an old opt-out is open, for recording is no answer. from_position and from_reached are those of the
-- cursor that the page was asked with: where another reader moved it meanwhile, the mentions are stored and the cursor is
-- left to that reader. Locks the cursor's row.
CREATE OR REPLACE FUNCTION fleet.note_mentions(
    incarnation uuid, account text, name text, mentions jsonb, newest text, oldest text, is_last boolean,
    from_position text, from_reached text, started_at timestamptz
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
    known fleet.cursors;
    is_first boolean;
    moved boolean := false;
    at timestamptz;
    top numeric;
    new_rows integer;
    open_rows integer;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.id_number('newest', newest), fleet.id_number('oldest', oldest);
    IF coalesce(length(note_mentions.name), 0) NOT BETWEEN 1 AND 200 THEN
        PERFORM fleet.refuse('name', note_mentions.name, 'a text of 1 to 200 characters');
    END IF;
    IF note_mentions.started_at IS NULL OR is_last IS NULL THEN
        PERFORM fleet.refuse('started_at, is_last', NULL, 'the time before the page was read, and whether it is the last');
    END IF;
    IF NOT EXISTS (SELECT 1 FROM fleet.accounts a WHERE a.name = note_mentions.account) THEN
        PERFORM fleet.refuse('account', note_mentions.account, 'the name of an account that is there');
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    at := fleet.now();
    INSERT INTO fleet.cursors (account, name, position, baseline, started_at, moved_at)
    VALUES (note_mentions.account, note_mentions.name, coalesce(newest, '0'), coalesce(newest, '0'),
        least(note_mentions.started_at, at), at)
    ON CONFLICT ON CONSTRAINT cursors_pkey DO NOTHING;
    is_first := FOUND;
    SELECT * INTO known FROM fleet.cursors c
    WHERE c.account = note_mentions.account AND c.name = note_mentions.name FOR UPDATE;
    at := fleet.now();
    WITH page AS (
        SELECT m.*, CASE
            WHEN m.author_id = own.platform_user_id THEN 'own'
            WHEN EXISTS (SELECT 1 FROM fleet.accounts o WHERE o.platform = own.platform AND o.platform_user_id = m.author_id)
                THEN 'fleet'
            ELSE m.kind END AS known_kind
        FROM jsonb_to_recordset(mentions) AS m(platform_id text, author_id text, handle text, text text, conversation_id text,
            kind text, summons boolean, request text, subject text, reason text, posted_at timestamptz)
        JOIN fleet.accounts own ON own.name = note_mentions.account
    ), judged AS (
        SELECT p.*, CASE
            WHEN p.known_kind = 'own' THEN 'the account''s own post'
            WHEN p.known_kind = 'fleet' THEN 'by another account of the fleet'
            WHEN p.request <> 'opt_out'
                AND (fleet.id_number('platform_id', p.platform_id) <= known.baseline::numeric OR p.posted_at < known.started_at)
                THEN 'older than the first look at mentions'
            ELSE p.reason END AS why_not
        FROM page p
    ), stored AS (
        INSERT INTO fleet.interactions (account, platform_id, author_id, handle, text, conversation_id, kind, summons, request,
            subject, state, reason, posted_at, seen_at, due_at, settled_at)
        SELECT note_mentions.account, j.platform_id, j.author_id, j.handle, j.text, j.conversation_id, j.known_kind, j.summons,
            CASE WHEN j.known_kind IN ('own', 'fleet') THEN 'none' ELSE j.request END, j.subject,
            CASE WHEN j.why_not IS NULL THEN 'seen' ELSE 'ignored' END, j.why_not, j.posted_at, at, at,
            CASE WHEN j.why_not IS NULL THEN NULL ELSE at END
        FROM judged j
        ON CONFLICT ON CONSTRAINT interactions_pkey DO NOTHING
        RETURNING state
    )
    SELECT count(*), count(*) FILTER (WHERE s.state = 'seen') INTO new_rows, open_rows FROM stored s;
    IF NOT is_first AND known.position = from_position AND known.reached IS NOT DISTINCT FROM from_reached THEN
        moved := true;
        top := greatest(known.position::numeric, known.ceiling::numeric, newest::numeric);
        IF is_last THEN
            UPDATE fleet.cursors c SET position = top::text, ceiling = NULL, reached = NULL, moved_at = at
            WHERE c.account = known.account AND c.name = known.name RETURNING * INTO known;
        ELSE
            UPDATE fleet.cursors c SET ceiling = top::text, moved_at = at,
                reached = least(known.reached::numeric, oldest::numeric)::text
            WHERE c.account = known.account AND c.name = known.name RETURNING * INTO known;
        END IF;
    END IF;
    RETURN fleet.cursor_as_told(known) || jsonb_build_object('noted', new_rows, 'open', open_rows,
        'moved', moved OR is_first);
END $$;

-- Takes up to n open interactions that are due, opt-outs before all, then oldest post first, for lease_s of real time; those of
-- a holder that died are free at once. With each comes what decides about an answer: the newest reply proposed to it, and
-- how many answers its author had within the hour and its conversation ever.
CREATE OR REPLACE FUNCTION fleet.take_interactions(incarnation uuid, account text, n integer, lease_s double precision)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    at timestamptz;
    real timestamptz;
    holder uuid;
    taken jsonb;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    PERFORM fleet.require_batch(n);
    PERFORM fleet.require_lease_s(lease_s);
    real := clock_timestamp();
    FOR holder IN
        SELECT DISTINCT i.taken_by FROM fleet.interactions i WHERE i.account = take_interactions.account
          AND i.state IN ('seen', 'delegated') AND i.taken_until > real AND i.taken_by <> take_interactions.incarnation
    LOOP
        IF fleet.is_suspected(holder) THEN
            WITH freed AS MATERIALIZED (
                SELECT i.platform_id FROM fleet.interactions i
                WHERE i.account = take_interactions.account AND i.state IN ('seen', 'delegated') AND i.taken_by = holder
                FOR UPDATE SKIP LOCKED
            )
            UPDATE fleet.interactions i SET taken_by = NULL, taken_until = NULL
            FROM freed f WHERE i.account = take_interactions.account AND i.platform_id = f.platform_id;
        END IF;
    END LOOP;
    at := fleet.now();
    real := clock_timestamp();
    WITH picked AS MATERIALIZED (
        SELECT i.platform_id FROM fleet.interactions i
        WHERE i.account = take_interactions.account AND i.state IN ('seen', 'delegated') AND i.due_at <= at
          AND (i.taken_until IS NULL OR i.taken_until <= real)
        ORDER BY i.request <> 'opt_out', i.platform_id::numeric LIMIT n FOR UPDATE SKIP LOCKED
    ), held AS (
        UPDATE fleet.interactions i SET taken_by = take_interactions.incarnation,
            taken_until = real + make_interval(secs => lease_s)
        FROM picked p WHERE i.account = take_interactions.account AND i.platform_id = p.platform_id
        RETURNING i.*
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object('platform_id', h.platform_id, 'author_id', h.author_id, 'handle', h.handle,
        'text', h.text, 'conversation_id', h.conversation_id, 'kind', h.kind, 'request', h.request, 'subject', h.subject,
        'state', h.state, 'posted_at', h.posted_at, 'finding', h.finding, 'now', at,
        'proposed', (SELECT max(t.id)::text FROM fleet.intents t
            WHERE t.account = h.account AND t.action = 'reply' AND t.target = h.platform_id),
        'answers_to_author', (SELECT count(*) FROM fleet.interactions o WHERE o.account = h.account
            AND o.author_id = h.author_id AND o.state = 'answered' AND o.settled_at > at - interval '1 hour'),
        'answers_in_conversation', (SELECT count(*) FROM fleet.interactions o WHERE o.account = h.account
            AND o.conversation_id = h.conversation_id AND o.state = 'answered')
        ) ORDER BY h.request <> 'opt_out', h.platform_id::numeric), '[]')
    INTO taken FROM held h;
    RETURN taken;
END $$;

-- What became of an open interaction: `answered` by an intent, `ignored` with a reason, `delegated` by a message and due again
-- after due_in_s of fleet time, or `put_off`: nothing came of it for a reason, it stays open and is due again after due_in_s.
-- Only who holds the row says so. `found` anybody may say: a delegation's finding came back, which makes it due at once; who
-- holds it goes on. One that is settled already stays as it is. Gives its state then; null where there is none such, or it is
-- in other hands. Locks its row.
CREATE OR REPLACE FUNCTION fleet.settle_interaction(
    incarnation uuid, account text, platform_id text, outcome text, reason text DEFAULT NULL, intent bigint DEFAULT NULL,
    message bigint DEFAULT NULL, finding jsonb DEFAULT NULL, due_in_s double precision DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
    known fleet.interactions;
    at timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM fleet.require_incarnation(incarnation);
    IF NOT coalesce(CASE outcome
        WHEN 'answered' THEN settle_interaction.intent IS NOT NULL
        WHEN 'ignored' THEN coalesce(settle_interaction.reason, '') <> ''
        WHEN 'delegated' THEN settle_interaction.message IS NOT NULL AND due_in_s >= 0
        WHEN 'put_off' THEN coalesce(settle_interaction.reason, '') <> '' AND due_in_s >= 0
        WHEN 'found' THEN jsonb_typeof(settle_interaction.finding) = 'object' END, false)
    THEN
        PERFORM fleet.refuse('outcome', outcome, 'answered with an intent, ignored with a reason, delegated with a message '
            'and due_in_s, put_off with a reason and due_in_s, or found with a finding');
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT * INTO known FROM fleet.interactions i
    WHERE i.account = settle_interaction.account AND i.platform_id = settle_interaction.platform_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF known.state IN ('answered', 'ignored') THEN
        RETURN to_jsonb(known.state);
    END IF;
    IF outcome <> 'found' AND known.taken_by IS DISTINCT FROM settle_interaction.incarnation THEN
        RETURN NULL;
    END IF;
    at := fleet.now();
    UPDATE fleet.interactions i SET
        state = CASE WHEN outcome IN ('found', 'put_off') THEN known.state ELSE outcome END,
        reason = coalesce(left(settle_interaction.reason, 2000), known.reason),
        intent = coalesce(settle_interaction.intent, known.intent),
        message = coalesce(settle_interaction.message, known.message),
        finding = coalesce(settle_interaction.finding, known.finding),
        -- A finding may come before the delegation is noted: then nothing is waited for.
        due_at = CASE WHEN outcome = 'put_off' OR outcome = 'delegated' AND known.finding IS NULL
            THEN at + make_interval(secs => due_in_s) ELSE at END,
        settled_at = CASE WHEN outcome IN ('answered', 'ignored') THEN at END,
        taken_by = CASE outcome WHEN 'found' THEN known.taken_by END,
        taken_until = CASE outcome WHEN 'found' THEN known.taken_until END
    WHERE i.account = known.account AND i.platform_id = known.platform_id RETURNING * INTO known;
    RETURN to_jsonb(known.state);
END $$;
