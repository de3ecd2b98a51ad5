-- Jobs, as a person sees them.

-- name: list_jobs
-- The newest jobs, of one kind and state or of all, ended or not; both primary keys, backwards.
SELECT a.id::text AS id, a.kind, a.state, a.priority, a.attempts, a.max_attempts, a.run_at, a.finished_at, a.concurrency_key, a.error FROM (
    (SELECT j.id, j.kind, j.state, j.priority, j.attempts, j.max_attempts, j.run_at, NULL::timestamptz AS finished_at,
        j.concurrency_key, j.errors->-1->>'error' AS error
    FROM fleet.jobs j
    WHERE (%(kind)s::text IS NULL OR j.kind = %(kind)s::text) AND (%(state)s::text IS NULL OR j.state = %(state)s::text)
    ORDER BY j.id DESC LIMIT %(number)s::bigint)
    UNION ALL
    (SELECT f.id, f.kind, f.state, f.priority, f.attempts, f.max_attempts, f.run_at, f.finished_at, f.concurrency_key,
        f.errors->-1->>'error'
    FROM fleet.jobs_finished f
    WHERE (%(kind)s::text IS NULL OR f.kind = %(kind)s::text) AND (%(state)s::text IS NULL OR f.state = %(state)s::text)
    ORDER BY f.id DESC LIMIT %(number)s::bigint)
) a ORDER BY a.id DESC LIMIT %(number)s::bigint;
