-- What the ninth release's workers had in hand: jobs that run, with an open record and without, and a step.
INSERT INTO fleet.jobs (kind, payload, priority, rank, run_at, order_at, state, attempts, max_attempts, created_at, incarnation,
    lease, lease_expires_at, claimed_real_at)
SELECT 'k', '{}', 'low', 0, now() - interval '1 hour', now() - interval '1 hour', 'running', 2, 2, now(), gen_random_uuid(), n,
    now() + interval '1 hour', now() - interval '20 minutes' FROM generate_series(1, 3) n;
INSERT INTO fleet.open_runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at, job, attempt, wait_s)
SELECT 'w', 1, j.incarnation, j.kind, 't', now() - interval '30 minutes', j.claimed_real_at, j.id, j.attempts, 1800
FROM fleet.jobs j WHERE j.lease < 3;
INSERT INTO fleet.open_runs (worker, slot, incarnation, step, trace_id, started_at, started_real_at)
VALUES ('w', 1, gen_random_uuid(), 'a step', 't', now(), now());
INSERT INTO fleet.job_counts (kind, enqueued, claimed, completed, failed, snoozed, wait_s) VALUES ('k', 9, 8, 2, 2, 1, 10000);
INSERT INTO fleet.job_takers VALUES ('k', 'w');
