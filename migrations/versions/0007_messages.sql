-- Routes of messages, broadcasts that a newcomer is told, who sleeps, and conflicts that were settled. Columns ending in _at hold
-- fleet time unless the comment says real time.

ALTER TABLE fleet.messages
    ADD COLUMN broadcast bigint,           -- the broadcast that it belongs to
    ADD COLUMN late_reports integer NOT NULL DEFAULT 0,  -- by those who had lost its lease
    ADD COLUMN waited_s double precision,  -- real seconds from the sending to the first claim
    ADD COLUMN escalated_at timestamptz,
    -- The order of delivery. A step of priority is worth ten minutes of waiting, so that nothing waits for ever; without a clock in
    -- it an index can hold it.
    ADD COLUMN turn interval GENERATED ALWAYS AS
        ((due_at - '2000-01-01 00:00:00+00'::timestamptz) - (rank::double precision * '00:10:00'::interval)) STORED;
DROP INDEX fleet.messages_waiting;
CREATE INDEX messages_waiting ON fleet.messages (routed_to, turn, id) WHERE state IN ('waiting', 'claimed');
DROP INDEX fleet.messages_unrouted;
CREATE INDEX messages_of_roles ON fleet.messages (routed_to, turn, id) WHERE state = 'waiting' AND recipient_kind = 'role';
CREATE INDEX messages_claimed ON fleet.messages (routed_to, id) WHERE state = 'claimed';
CREATE UNIQUE INDEX messages_broadcast ON fleet.messages (broadcast, recipient) WHERE broadcast IS NOT NULL;
CREATE INDEX messages_open ON fleet.messages (expires_at) WHERE state IN ('waiting', 'claimed');

-- One row a broadcast: what a worker that starts within its time is given.
CREATE TABLE fleet.broadcasts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text NOT NULL,
    sender text NOT NULL,
    priority text NOT NULL,
    rank integer NOT NULL,
    payload jsonb NOT NULL,
    dedupe_key text,
    max_attempts integer NOT NULL,
    sent_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX broadcasts_once ON fleet.broadcasts (dedupe_key) WHERE dedupe_key IS NOT NULL;
CREATE INDEX broadcasts_live ON fleet.broadcasts (expires_at);

-- Which role gets a type of message, or a kind of one, that names no recipient. kind '*' is any.
CREATE TABLE fleet.routes (
    type text NOT NULL,
    kind text NOT NULL,
    role text NOT NULL,
    priority text CHECK (priority IN ('low', 'medium', 'high', 'critical')),  -- null: the type's own
    policy text NOT NULL CHECK (policy IN ('least_loaded', 'round_robin', 'first')),
    last_worker text,                      -- who got the last one, for round_robin
    changed_by text NOT NULL,
    reason text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (type, kind)
);
INSERT INTO fleet.routes (type, kind, role, priority, policy, changed_by, reason, changed_at) VALUES
    ('TASK_DELEGATION', 'analyse_post', 'content_analysis', 'high', 'least_loaded', 'migration', 'the fleet''s own workers', clock_timestamp()),
    ('TASK_DELEGATION', 'system_issue', 'system_issue', NULL, 'least_loaded', 'migration', 'the fleet''s own workers', clock_timestamp()),
    ('RESOURCE_REQUEST', '*', 'coordinator', NULL, 'first', 'migration', 'the fleet''s own workers', clock_timestamp()),
    ('CONFLICT_RESOLUTION', '*', 'coordinator', NULL, 'first', 'migration', 'the fleet''s own workers', clock_timestamp()),
    ('STATE_SYNC', '*', 'coordinator', NULL, 'first', 'migration', 'the fleet''s own workers', clock_timestamp()),
    ('PRIORITY_ESCALATION', '*', 'coordinator', NULL, 'first', 'migration', 'the fleet''s own workers', clock_timestamp());

-- Who waits to be woken.
CREATE TABLE fleet.sleepers (
    name text NOT NULL,                    -- as a wake-up names it
    incarnation uuid NOT NULL,
    worker text NOT NULL,
    slot integer NOT NULL,
    asleep boolean NOT NULL,
    changed_at timestamptz NOT NULL,       -- real time
    PRIMARY KEY (name, incarnation)
);
CREATE INDEX sleepers_slot ON fleet.sleepers (worker, slot);

-- Conflicts among workers, and how each was settled.
CREATE TABLE fleet.conflicts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,              -- one settlement however often it is asked for
    kind text NOT NULL CHECK (kind IN ('resource', 'priority', 'schedule', 'state')),
    thing text NOT NULL,
    contenders jsonb NOT NULL,
    strategy text CHECK (strategy IN ('priority', 'first_come', 'equal_shares', 'newest', 'person')),
    state text NOT NULL CHECK (state IN ('decided', 'open')),  -- open: a person must decide
    winner text,
    grants jsonb NOT NULL DEFAULT '[]',    -- what each contender gets, best first
    reason text NOT NULL,
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL,
    decided_by text,
    decided_at timestamptz,
    took_s double precision                -- real seconds from the question to the decision
);
CREATE INDEX conflicts_open ON fleet.conflicts (id) WHERE state = 'open';
CREATE INDEX conflicts_asked ON fleet.conflicts (asked_at);
