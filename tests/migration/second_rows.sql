-- What the second release's database may hold of processes: one slot as two hosts saw it, a limit that was a live setting, orders that
-- were open, and a life in mid-flight.
INSERT INTO fleet.workers (name, enabled, replicas, description, changed_by, reason, changed_at, roles) VALUES
    ('poster', true, 2, 'sends', 'me', 'why', now(), '{}'),
    ('planner', false, 1, 'plans', 'ann', 'too loud', now(), '{plan}');
INSERT INTO fleet.slots VALUES
    ('poster', 1, 'old', 'BACKOFF', 'killed', now() - interval '1 hour', 1, 3, now() - interval '1 hour'),
    ('poster', 1, 'new', 'READY', '', now(), 2, 0, now()),
    ('poster', 2, 'old', 'READY', '', now(), 3, 0, now()),
    ('planner', 1, 'new', 'STOPPED', 'a person stopped it', now(), NULL, 0, now());
INSERT INTO fleet.settings VALUES ('poster_memory_limit_mb', '300', 1, 'me', 'why', now()),
    ('planner_memory_limit_mb', '"much"', 2, 'me', 'why', now()), ('poster_interval_s', '15', 3, 'me', 'why', now());
INSERT INTO fleet.commands (action, worker, slot, requested_by, reason, requested_at, state) VALUES
    ('restart', 'poster', 1, 'me', 'why', now(), 'pending'), ('stop', 'planner', NULL, 'me', 'why', now(), 'running'),
    ('start', 'poster', NULL, 'me', 'why', now(), 'done');
INSERT INTO fleet.incarnations VALUES (gen_random_uuid(), 'poster', 1, 'new', 2, '20', 'boot', 'ns', now());
