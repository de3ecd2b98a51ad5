-- Messages for a person. Every query reads a snapshot and locks nothing.

-- name: list_messages
-- The newest messages, of one state and recipient or of all; the primary key, backwards.
SELECT m.id::text AS id, m.type, m.sender, m.recipient_kind, m.recipient, m.routed_to, m.priority, m.state, m.attempts,
    m.max_attempts, m.sent_at, m.expires_at, m.errors->-1->>'error' AS error
FROM fleet.messages m WHERE (%(state)s::text IS NULL OR m.state = %(state)s::text)
    AND (%(recipient)s::text IS NULL OR %(recipient)s::text IN (m.recipient, m.routed_to))
ORDER BY m.id DESC LIMIT %(number)s::bigint;

-- name: get_message
-- One message with everything that is known of it; the primary key.
SELECT m.id::text AS id, m.type, m.sender, m.recipient_kind, m.recipient, m.routed_to, m.priority, m.state, m.attempts,
    m.max_attempts, m.reply_to::text AS reply_to, m.dedupe_key, m.sent_at, m.due_at, m.expires_at, m.finished_at,
    m.incarnation::text AS incarnation, m.lease_expires_at, m.payload, m.errors
FROM fleet.messages m WHERE m.id = %(message)s::bigint;

-- name: list_routes
-- Every route, by type and kind; the whole table, which is small.
SELECT r.type, r.kind, r.role, r.priority, r.policy, r.changed_by, r.reason, r.changed_at FROM fleet.routes r ORDER BY r.type, r.kind;

-- name: list_conflicts
-- The newest conflicts, of one state or of all; the primary key, backwards.
SELECT c.id::text AS id, c.kind, c.thing, c.state, c.strategy, c.winner, c.grants, c.contenders, c.reason, c.asked_by, c.asked_at,
    c.decided_by, c.decided_at, c.took_s
FROM fleet.conflicts c WHERE %(state)s::text IS NULL OR c.state = %(state)s::text ORDER BY c.id DESC LIMIT %(number)s::bigint;
