-- Who waits for a content, and what is known of the locks. Columns ending in _at hold fleet time unless the comment says real time.

-- scope: '' locks the content for the whole fleet, an account's name for that account alone.
ALTER TABLE fleet.engagement_locks
    ADD COLUMN scope text NOT NULL DEFAULT '',
    ADD COLUMN account text,               -- on whose behalf, where that is known
    ADD COLUMN waiter bigint,              -- the waiter that became this lease: a poll whose answer was lost finds it
    ADD COLUMN ticket uuid,                -- the request's own name: by it goes back what was granted without an answer
    DROP CONSTRAINT engagement_locks_pkey,
    ADD CONSTRAINT engagement_locks_pkey PRIMARY KEY (content, scope);
CREATE INDEX engagement_locks_account ON fleet.engagement_locks (account) WHERE account IS NOT NULL;

CREATE TABLE fleet.lock_waiters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    content text NOT NULL,
    scope text NOT NULL,
    account text,
    lock_type text NOT NULL,
    duration interval NOT NULL,
    priority text NOT NULL,
    score double precision,
    besides bigint,                        -- the intent that asks: its own history and state don't count
    ticket uuid,                           -- the request's own name
    incarnation uuid NOT NULL,
    worker_id text NOT NULL,
    waits_since timestamptz NOT NULL,      -- real time
    stands_at timestamptz NOT NULL,        -- real time, earlier by what its priority and score are worth: the order of the line
    polled_at timestamptz NOT NULL,        -- real time
    poll_by timestamptz NOT NULL,          -- real time; one that is past it is passed over
    deadline_at timestamptz NOT NULL,      -- real time; then its place is lost
    escalated_at timestamptz               -- real time
);
CREATE INDEX lock_waiters_line ON fleet.lock_waiters (content, stands_at, id);
CREATE INDEX lock_waiters_account ON fleet.lock_waiters (account, stands_at, id) WHERE account IS NOT NULL;
CREATE INDEX lock_waiters_deadline ON fleet.lock_waiters (deadline_at);

-- What became of the requests of one life within five minutes: a row that nobody else writes, so that counting never waits.
CREATE TABLE fleet.lock_measures (
    counted_at timestamptz NOT NULL,       -- the five minutes' beginning
    incarnation uuid NOT NULL,
    granted bigint NOT NULL DEFAULT 0,
    granted_after_waiting bigint NOT NULL DEFAULT 0,
    refused_held bigint NOT NULL DEFAULT 0,
    refused_engaged bigint NOT NULL DEFAULT 0,
    refused_interval bigint NOT NULL DEFAULT 0,
    taken_over bigint NOT NULL DEFAULT 0,
    timed_out bigint NOT NULL DEFAULT 0,
    given_up bigint NOT NULL DEFAULT 0,
    escalated bigint NOT NULL DEFAULT 0,
    acquire_s double precision NOT NULL DEFAULT 0,
    acquire_max_s double precision NOT NULL DEFAULT 0,
    acquire_within bigint[] NOT NULL DEFAULT '{0,0,0,0,0,0,0,0}',
    resolved bigint NOT NULL DEFAULT 0,
    resolve_s double precision NOT NULL DEFAULT 0,
    resolve_max_s double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (counted_at, incarnation)
) WITH (fillfactor = 70);

-- Late renewals and releases: a sequence, since their own transaction is undone. A crash of the server may add up to 32.
CREATE SEQUENCE fleet.lock_misses CACHE 1;
-- Calls of lives that have ended: counted likewise.
CREATE SEQUENCE fleet.late_words CACHE 1;

CREATE INDEX engagements_account ON fleet.engagements (account, engaged_at DESC) WHERE account IS NOT NULL;
CREATE INDEX intents_undecided ON fleet.intents (account) WHERE state IN ('sending', 'unknown', 'parked');

-- Fleet seconds that this account lets pass between two engagements; null: as the setting engagement_spacing_s says.
ALTER TABLE fleet.accounts ADD COLUMN engagement_spacing_s double precision
    CHECK (engagement_spacing_s >= 0 AND engagement_spacing_s <= 86400);
