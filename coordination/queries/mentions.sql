-- What the command line shows of mentions. Every query reads a snapshot and locks nothing.

-- name: list_interactions
-- The newest mentions, of one state or of all, with what became of the answers; sorts the account's interactions, which
-- retention keeps to thousands.
SELECT i.account, i.platform_id, i.author_id, i.handle, i.text, i.conversation_id, i.kind, i.summons, i.request, i.subject,
    i.state, i.reason, i.posted_at, i.seen_at, i.due_at, i.intent::text AS intent, i.message::text AS message, i.finding,
    i.settled_at, t.state AS intent_state, t.reason AS intent_reason
FROM fleet.interactions i
LEFT JOIN fleet.intents t ON t.id = i.intent
WHERE %(state)s::text IS NULL OR i.state = %(state)s::text
ORDER BY i.posted_at DESC, i.platform_id DESC LIMIT %(number)s::bigint;

-- name: list_interaction
-- One mention, for each account that it named, with what became of its answer; along the index of seen interactions' key.
SELECT i.account, i.platform_id, i.author_id, i.handle, i.text, i.conversation_id, i.kind, i.summons, i.request, i.subject,
    i.state, i.reason, i.posted_at, i.seen_at, i.due_at, i.intent::text AS intent, i.message::text AS message, i.finding,
    i.settled_at, t.state AS intent_state, t.text AS answer, t.platform_id AS answered_as, t.reason AS intent_reason,
    m.state AS message_state, m.routed_to
FROM fleet.interactions i
LEFT JOIN fleet.intents t ON t.id = i.intent
LEFT JOIN fleet.messages m ON m.id = i.message
WHERE i.platform_id = %(platform_id)s::text ORDER BY i.account;
