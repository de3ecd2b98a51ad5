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
