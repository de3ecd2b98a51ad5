-- What the third release's database may have in hand: a limit that is partly used, a send under way, work and messages in each state, a
-- slot that fired, settings and flags that somebody set.
INSERT INTO fleet.accounts (name, platform, api_url, sandbox, topics, changed_at, tier)
    VALUES ('sandbox', 'x', 'http://127.0.0.1:1', true, '{gardens}', now(), 'enterprise');
INSERT INTO fleet.workers (name, enabled, replicas, description, changed_by, reason, changed_at, roles)
    VALUES ('tester', true, 1, 'tests', 'me', 'why', now(), '{test}');
INSERT INTO fleet.incarnations VALUES ('00000000-0000-4000-8000-000000000001', 'tester', 1, 'h', 1, 's', 'b', 'n', now());
INSERT INTO fleet.engagement_locks VALUES
    ('1999', 'reply', 'medium', '00000000-0000-4000-8000-000000000001', 'tester', 900, now(), now() + interval '15 minutes');
INSERT INTO fleet.engagements (content, action, account, worker_id, success, engaged_at)
    VALUES ('1998', 'reply', 'sandbox', 'tester', true, now() - interval '1 hour');
INSERT INTO fleet.rate_limits VALUES ('sandbox', 'post_tweet', 50, 900, NULL, 0, NULL, NULL, NULL, 0),
    ('sandbox', 'search_tweets', 180, 900, NULL, 0, NULL, NULL, NULL, 0),
    ('default', 'fetch_mentions', 5, 900, NULL, 0, NULL, NULL, NULL, 0),
    ('default', 'post_tweet', 5, 900, NULL, 0, NULL, NULL, NULL, 0);
INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, granted_real_at, settled_at, success, frees_at)
    SELECT 'sandbox', 'post_tweet', '00000000-0000-4000-8000-000000000001', 'tester', 'high', at, at, at, true, at + interval '15 minutes'
    FROM (SELECT now() - make_interval(secs => n) AS at FROM generate_series(1, 30) n) g;
INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, granted_real_at, frees_at)
    VALUES ('sandbox', 'search_tweets', '00000000-0000-4000-8000-000000000001', 'tester', 'high', now(), now(), 'infinity');
INSERT INTO fleet.jobs (kind, payload, priority, rank, run_at, state, attempts, max_attempts, unique_key, errors, created_at, finished_at,
    incarnation, lease, lease_expires_at)
    SELECT 'analyse', jsonb_build_object('was', s), 'medium', 2, now() - interval '1 minute', s, 1, 5, 'key of ' || s, '[]',
        now() - interval '1 hour', CASE WHEN s IN ('completed', 'cancelled', 'dead') THEN now() - interval '40 days' END,
        CASE s WHEN 'running' THEN '00000000-0000-4000-8000-000000000001'::uuid END, CASE s WHEN 'running' THEN 901 END,
        CASE s WHEN 'running' THEN now() + interval '1 minute' END
    FROM unnest(ARRAY['available', 'running', 'retryable', 'completed', 'cancelled', 'dead']) s;
INSERT INTO fleet.messages (type, sender, recipient_kind, recipient, routed_to, priority, rank, payload, sent_at, expires_at, state, attempts,
    max_attempts, due_at, errors, incarnation, lease, lease_expires_at, finished_at)
    SELECT 'SYSTEM_EVENT', 'tester', 'worker', 'tester', 'tester', 'medium', 2, jsonb_build_object('was', s), now(), now() + interval '1 hour', s,
        1, 5, now(), '[]', CASE s WHEN 'claimed' THEN '00000000-0000-4000-8000-000000000001'::uuid END, CASE s WHEN 'claimed' THEN 902 END,
        CASE s WHEN 'claimed' THEN now() + interval '1 minute' END, CASE WHEN s IN ('acknowledged', 'dead') THEN now() END
    FROM unnest(ARRAY['waiting', 'claimed', 'acknowledged', 'dead']) s;
INSERT INTO fleet.schedules VALUES ('tester', 3600, now() - interval '10 minutes', 7, 2);
INSERT INTO fleet.schedule_slots VALUES ('tester', now() - interval '10 minutes', gen_random_uuid(), now(), 0);
INSERT INTO fleet.runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at, ended_real_at, outcome)
    VALUES ('tester', 1, gen_random_uuid(), 'step', 't', now() - interval '2 days', now() - interval '2 days', now() - interval '2 days', 'done'),
    ('tester', 1, '00000000-0000-4000-8000-000000000001', 'step', 't', now(), now(), NULL, 'running');
INSERT INTO fleet.settings VALUES ('poster_interval_s', '15', 3, 'me', 'why', now()), ('nobody_knows_this', '"much"', 4, 'me', 'why', now());
INSERT INTO fleet.flags VALUES ('poster_enabled', false, 5, 'me', 'too loud', now());
