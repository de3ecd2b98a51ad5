-- What the ninth revision's database may have in hand: jobs that run, each with an open run, and what was counted of them; a step that
-- runs; limits that are partly used, by a log and by an arrival time; candidates and acts in each state.
INSERT INTO fleet.accounts (name, platform, api_url, sandbox, topics, changed_at, tier)
    VALUES ('sandbox', 'x', 'http://127.0.0.1:1', true, '{gardens}', now(), 'enterprise');
INSERT INTO fleet.workers (name, enabled, replicas, description, changed_by, reason, changed_at, roles)
    VALUES ('tester', true, 1, 'tests', 'me', 'why', now(), '{test}');
INSERT INTO fleet.incarnations (id, worker, slot, host, pid, pid_started, boot_id, pid_namespace, started_at)
    VALUES ('00000000-0000-4000-8000-000000000001', 'tester', 2, 'h', 1, 's', 'b', 'n', now());

INSERT INTO fleet.jobs (kind, payload, priority, rank, run_at, order_at, state, attempts, max_attempts, unique_key, incarnation, lease,
    lease_expires_at, errors, created_at, claimed_real_at)
    SELECT 'analyse', jsonb_build_object('was', was), 'medium', 2, now() - interval '100 s', now() - interval '1 hour', state, attempts, 5,
        'key of ' || was, CASE state WHEN 'running' THEN '00000000-0000-4000-8000-000000000001'::uuid END,
        CASE state WHEN 'running' THEN 900 END, CASE state WHEN 'running' THEN now() + until END,
        CASE attempts WHEN 0 THEN '[]'::jsonb ELSE '[{"attempt": 1, "error": "before"}]' END, now() - interval '1 hour',
        CASE state WHEN 'running' THEN now() - interval '70 s' END
    FROM (VALUES ('waiting', 'available', 0, NULL::interval), ('failed', 'retryable', 1, NULL), ('under way', 'running', 2, '1 minute'),
        ('out of its lease', 'running', 1, '-1 s')) j (was, state, attempts, until);
INSERT INTO fleet.open_runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at, job, attempt, wait_s)
    SELECT 'tester', 2, j.incarnation, j.kind, 'trace', j.run_at + interval '30 s', j.claimed_real_at, j.id, j.attempts, 30
    FROM fleet.jobs j WHERE j.state = 'running';
INSERT INTO fleet.open_runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at)
    VALUES ('tester', 2, '00000000-0000-4000-8000-000000000001', 'step', 'trace of the step', now(), now());
INSERT INTO fleet.runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at, ended_real_at, outcome, job, attempt, wait_s)
    VALUES ('tester', 2, gen_random_uuid(), 'analyse', 't', now(), now(), now(), 'done', 7, 1, 5);
INSERT INTO fleet.jobs_finished (id, kind, payload, priority, run_at, state, attempts, max_attempts, errors, created_at, finished_at)
    SELECT n, 'analyse', '{}', 'medium', now(), state, 1, 5, '[]', now(), now()
    FROM unnest('{completed,dead}'::text[]) WITH ORDINALITY AS f (state, n);
-- Eight executions: two are under way, three done, two failed, one put off. They waited 200 s, of which 60 are those of the two.
INSERT INTO fleet.job_counts (kind, enqueued, claimed, completed, failed, snoozed, wait_s, run_s) VALUES
    ('analyse', 5, 6, 2, 1, 1, 150, 40), ('analyse', 3, 2, 1, 1, 0, 50, 9);
INSERT INTO fleet.job_takers (kind, worker) VALUES ('analyse', 'tester');

INSERT INTO fleet.rate_limits (account, endpoint, requests, window_s, blocked_until, limits, windows_s, burst, spacing_us, tat, occupied,
    counted_to, told, refreshed_at) VALUES
    ('sandbox', 'post_tweet', 50, 900, NULL, '{50}', '{900}', '{0}', '{0}', '{-infinity}', '{30}', ARRAY[now() - interval '15 minutes'],
        '{0}', now() - interval '1 minute'),
    ('sandbox', 'fetch_mentions', 1000, 86400, NULL, '{1000}', '{86400}', '{15}', '{87641988}',
        ARRAY[now() + 10 * interval '87641988 microseconds' - interval '1 s'], '{10}', ARRAY[now() - interval '1 day'], '{0}', now()),
    ('sandbox', 'search_tweets', 180, 900, now() + interval '10 minutes', '{180}', '{900}', '{0}', '{0}', '{-infinity}', '{1}',
        ARRAY[now() - interval '15 minutes'], '{0}', now());
INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, granted_real_at, settled_at, success, frees_at)
    SELECT 'sandbox', 'post_tweet', '00000000-0000-4000-8000-000000000001', 'tester', 'high', at, at, at, true, at + interval '15 minutes'
    FROM (SELECT now() - make_interval(secs => n) AS at FROM generate_series(1, 30) n) g;

INSERT INTO fleet.candidates (account, platform_id, author_id, handle, text, topic, origin, posted_at, found_at, scored_at, metrics, score,
    parts, state, taken_by, taken_until)
    SELECT 'sandbox', '70' || n, '7', 'ann', 'a text', 'gardens', 'search', now(), now(), now(), '{}', 50 + n, '{}', state,
        CASE state WHEN 'taken' THEN '00000000-0000-4000-8000-000000000001'::uuid END,
        CASE state WHEN 'taken' THEN now() + interval '5 minutes' END
    FROM unnest('{waiting,taken,proposed,passed,given_up}'::text[]) WITH ORDINALITY AS c (state, n);
INSERT INTO fleet.intents (account, action, target, content, text, state, not_before, deadline, retry_at, proposed_by, by_person, origin,
    attempt, incarnation, fencing_token, claimed_until, platform_id, created_at, updated_at)
    SELECT 'sandbox', 'post', 'plan:' || s, 'slot:sandbox:plan:' || s, 'a text, ' || s, split_part(s, '-', 1), now() - interval '1 minute',
        now() + CASE WHEN s LIKE '%-late' THEN interval '-1 s' ELSE interval '1 hour' END,
        CASE s WHEN 'retry_at' THEN now() - interval '1 s' END, 'tester/1', false, '{}', 1,
        CASE WHEN s IN ('claimed', 'sending') THEN '00000000-0000-4000-8000-000000000001'::uuid END, 7,
        CASE WHEN s IN ('claimed', 'sending') THEN now() - interval '1 hour' END, CASE s WHEN 'posted' THEN '1900' END, now(), now()
    FROM unnest(ARRAY['draft', 'awaiting_approval', 'awaiting_approval-late', 'ready', 'ready-late', 'claimed', 'sending', 'posted', 'rejected',
        'retry_at', 'unknown', 'parked', 'expired', 'cancelled']) s;
