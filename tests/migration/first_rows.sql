-- A row in every table of the first release, and an act in each of its states.
INSERT INTO fleet.clock VALUES (true, now(), now(), 1);
INSERT INTO fleet.incarnations VALUES (gen_random_uuid(), 'poster', 1, 'h', 1, 's', 'b', 'n', now(), now(), 'closed');
INSERT INTO fleet.heartbeats SELECT id, 'poster', 1, 'READY', '', '', 1, now(), now(), true, '{}', 1
    FROM fleet.incarnations;
INSERT INTO fleet.workers VALUES ('poster', true, 2, 'sends', 'me', 'why', now());
INSERT INTO fleet.slots VALUES ('poster', 1, 'h', 'READY', '', now(), 1, 0, now());
INSERT INTO fleet.commands (action, worker, requested_by, reason, requested_at, state)
    VALUES ('stop', 'poster', 'me', 'why', now(), 'done');
INSERT INTO fleet.settings VALUES ('poster_interval_s', '15', 1, 'me', 'why', now());
INSERT INTO fleet.flags VALUES ('poster_enabled', true, 2, 'me', 'why', now());
INSERT INTO fleet.audits (at, actor, login, action, target, reason, details)
    VALUES (now(), 'me', 'fleet_console', 'approve', 'intent 1', 'why', '{}');
INSERT INTO fleet.events (at, severity, kind, source, message, data)
    VALUES (now(), 'info', 'posted', 'poster/1', 'posted 1 as 1900', '{}');
INSERT INTO fleet.accounts VALUES ('sandbox', 'x', 'http://127.0.0.1:1', true, '42', 'fleet', '{gardens}', now()),
    ('default', 'x', 'https://api.x.com', false, NULL, NULL, '{gardens}', now());
INSERT INTO fleet.engagement_locks VALUES ('slot:sandbox:a', 'post', 'medium', gen_random_uuid(), 'p', 7, now(), now());
INSERT INTO fleet.rate_limits VALUES ('sandbox', 'post_tweet', 50, 900, 100, 3, 17, now(), NULL, 1);
INSERT INTO fleet.rate_grants (account, endpoint, incarnation, worker_id, priority, granted_at, granted_real_at,
    settled_at, success, frees_at)
    VALUES ('sandbox', 'post_tweet', gen_random_uuid(), 'p', 'high', now(), now(), now(), true, now());
INSERT INTO fleet.jobs (kind, payload, priority, rank, run_at, state, max_attempts, created_at)
    VALUES ('k', '{}', 'low', 0, now(), 'available', 3, now());
INSERT INTO fleet.schedules VALUES ('plan', 60, now(), 1, 0);
INSERT INTO fleet.schedule_slots VALUES ('plan', now(), gen_random_uuid(), now(), 0);
INSERT INTO fleet.runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at, outcome)
    VALUES ('poster', 1, gen_random_uuid(), 'step', 't', now(), now(), 'done');
INSERT INTO fleet.failed_items VALUES ('metrics', '1900', 1, 'E', 'no', now(), now(), NULL);
INSERT INTO fleet.kill_switch VALUES ('global', false, 'over', 'me', now());
INSERT INTO fleet.intents (account, action, target, content, text, state, not_before, proposed_by, by_person, origin,
    attempt, incarnation, fencing_token, platform_id, created_at, updated_at)
    SELECT 'sandbox', 'post', 'plan:' || s, 'slot:sandbox:plan:' || s, '100% of ' || s, s, now(), 'planner/1', false,
        '{"topic": "gardens"}', 1, gen_random_uuid(), 7, CASE s WHEN 'posted' THEN '1900' END, now(), now()
    FROM unnest(ARRAY['draft', 'awaiting_approval', 'ready', 'claimed', 'sending', 'posted', 'rejected', 'retry_at',
        'unknown', 'parked', 'expired', 'cancelled', 'dry_run']) s;
INSERT INTO fleet.attempts SELECT id, 1, gen_random_uuid(), 'p', 7, 1, now(), now(), now(), 'posted', 201, NULL, '{}'
    FROM fleet.intents WHERE state = 'posted';
INSERT INTO fleet.intent_transitions (intent, to_state, at, real_at, attempt, actor)
    SELECT id, state, now(), now(), 0, 'planner/1' FROM fleet.intents;
INSERT INTO fleet.engagements (content, action, account, worker_id, intent, success, engaged_at)
    SELECT content, 'post', account, 'p', id, true, now() FROM fleet.intents WHERE state = 'posted';
INSERT INTO fleet.tracked_posts SELECT account, platform_id, id, now(), 1, 0, now(), NULL
    FROM fleet.intents WHERE state = 'posted';
INSERT INTO fleet.readings VALUES ('sandbox', '1900', 1, now(), '{"likes": 3}');
