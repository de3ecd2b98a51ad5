-- What persons see of the pool of candidates. Every query reads a snapshot and locks nothing.

-- name: list_candidates
-- Those that wait or are taken first, by score; then the others, decided last first. Reads the whole table.
SELECT c.account, c.platform_id, c.author_id, c.handle, c.text, c.topic, c.origin, c.posted_at, c.found_at, c.scored_at,
    c.metrics, c.score, c.parts, c.state, c.reason, c.intent::text AS intent, c.decided_at
FROM fleet.candidates c WHERE %(states)s::text[] IS NULL OR c.state = ANY(%(states)s::text[])
ORDER BY c.decided_at IS NULL DESC, CASE WHEN c.decided_at IS NULL THEN c.score END DESC, c.decided_at DESC, c.platform_id
LIMIT %(number)s::bigint;

-- name: get_candidate
-- One post, for every account that found it; the primary key has the account first, so it reads the whole table.
SELECT c.account, c.platform_id, c.author_id, c.handle, c.text, c.topic, c.origin, c.posted_at, c.found_at, c.scored_at,
    c.metrics, c.score, c.parts, c.state, c.reason, c.intent::text AS intent, c.decided_at
FROM fleet.candidates c WHERE c.platform_id = %(platform_id)s ORDER BY c.account;

-- name: count_candidates
-- How many candidates each account has in each state; reads the whole table.
SELECT account, state, count(*) AS number FROM fleet.candidates GROUP BY account, state ORDER BY account, state;

-- name: list_best_candidates
-- The best that wait, for the page; reads what waits.
SELECT c.account, c.platform_id, c.handle, c.text, c.topic, c.posted_at, c.score, c.parts, a.api_url, a.sandbox
FROM fleet.candidates c JOIN fleet.accounts a ON a.name = c.account
WHERE c.state IN ('waiting', 'taken') ORDER BY c.score DESC, c.platform_id LIMIT %(number)s::bigint;
