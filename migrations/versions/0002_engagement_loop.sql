-- Replies, quotes and likes; what workers tell each other; whom the fleet met. Columns ending in _at hold fleet time unless
-- the comment says real time.

ALTER TABLE fleet.workers ADD COLUMN roles text[] NOT NULL DEFAULT '{}';

-- What the platform lets the account do.
ALTER TABLE fleet.accounts ADD COLUMN tier text NOT NULL DEFAULT 'pay_per_use'
    CONSTRAINT accounts_tier_check CHECK (tier IN ('free', 'pay_per_use', 'enterprise'));

-- Which tier may do what: allow, summoned (only where the account was called), deny. What has no row is denied.
CREATE TABLE fleet.policy_rules (
    platform text NOT NULL,
    tier text NOT NULL,
    action text NOT NULL,
    rule text NOT NULL CHECK (rule IN ('allow', 'summoned', 'deny')),
    reason text NOT NULL,
    PRIMARY KEY (platform, tier, action)
);
INSERT INTO fleet.policy_rules (platform, tier, action, rule, reason) VALUES
    ('x', 'free', 'post', 'allow', 'every tier posts'),
    ('x', 'free', 'reply', 'deny', 'the free tier doesn''t reply'),
    ('x', 'free', 'quote', 'deny', 'X keeps quotes for enterprise access since 2026-04-20'),
    ('x', 'free', 'like', 'deny', 'X keeps likes for enterprise access since 2026-04-20'),
    ('x', 'free', 'search', 'deny', 'the free tier doesn''t search'),
    ('x', 'free', 'mentions', 'deny', 'the free tier doesn''t read mentions'),
    ('x', 'pay_per_use', 'post', 'allow', 'every tier posts'),
    ('x', 'pay_per_use', 'reply', 'summoned', 'X allows replies only to those who mentioned the account or quoted it'),
    ('x', 'pay_per_use', 'quote', 'deny', 'X keeps quotes for enterprise access since 2026-04-20'),
    ('x', 'pay_per_use', 'like', 'deny', 'X keeps likes for enterprise access since 2026-04-20'),
    ('x', 'pay_per_use', 'search', 'allow', 'reads are paid by use'),
    ('x', 'pay_per_use', 'mentions', 'allow', 'reads are paid by use'),
    ('x', 'enterprise', 'post', 'allow', 'every tier posts'),
    ('x', 'enterprise', 'reply', 'allow', 'enterprise access replies'),
    ('x', 'enterprise', 'quote', 'allow', 'enterprise access quotes'),
    ('x', 'enterprise', 'like', 'allow', 'enterprise access likes; a real account''s likes are refused whatever its tier'),
    ('x', 'enterprise', 'search', 'allow', 'enterprise access reads'),
    ('x', 'enterprise', 'mentions', 'allow', 'enterprise access reads');

-- Who asked to be left alone: for the whole fleet, for ever.
CREATE TABLE fleet.opt_outs (
    platform text NOT NULL,
    author_id text NOT NULL,
    handle text NOT NULL,
    account text NOT NULL,
    platform_id text NOT NULL,
    words text NOT NULL,
    opted_out_at timestamptz NOT NULL,
    PRIMARY KEY (platform, author_id)
);

ALTER TABLE fleet.intents DROP CONSTRAINT intents_action_check;
ALTER TABLE fleet.intents ADD CONSTRAINT intents_action_check CHECK (action IN ('post', 'reply', 'quote', 'like'));
ALTER TABLE fleet.intents DROP CONSTRAINT intents_text_check;
ALTER TABLE fleet.intents ADD CONSTRAINT intents_text_check
    CHECK (CASE action WHEN 'like' THEN text = '' ELSE length(text) BETWEEN 1 AND 25000 END);
-- A like has no id of its own: it carries the liked post's, which another account's like or a reply may carry too.
DROP INDEX fleet.intents_platform_id;
CREATE UNIQUE INDEX intents_platform_id ON fleet.intents (account, platform_id)
    WHERE platform_id IS NOT NULL AND action <> 'like';
CREATE INDEX intents_created ON fleet.intents (account, created_at);
CREATE INDEX intents_act ON fleet.intents (account, action, target);
CREATE INDEX attempts_open ON fleet.attempts (grant_id) WHERE settled_at IS NULL;

INSERT INTO fleet.rate_limits (account, endpoint, requests, window_s) VALUES ('*', 'like_tweet', 50, 900);

-- What one worker tells another. A broadcast is a row a worker; a role's message waits until the coordinator routed it.
CREATE TABLE fleet.messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text NOT NULL CHECK (type IN ('TASK_DELEGATION', 'RESOURCE_REQUEST', 'CONFLICT_RESOLUTION', 'STATE_SYNC',
        'SYSTEM_EVENT', 'PRIORITY_ESCALATION')),
    sender text NOT NULL,
    recipient_kind text NOT NULL CHECK (recipient_kind IN ('worker', 'role', 'all')),
    recipient text NOT NULL,
    routed_to text,                        -- the worker's name; null until a role's message is routed
    priority text NOT NULL,
    rank integer NOT NULL,
    payload jsonb NOT NULL,
    reply_to bigint,
    dedupe_key text,
    sent_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    state text NOT NULL CHECK (state IN ('waiting', 'claimed', 'acknowledged', 'dead')),
    attempts integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL CHECK (max_attempts BETWEEN 1 AND 1000),
    due_at timestamptz NOT NULL,
    incarnation uuid,
    lease bigint,
    lease_expires_at timestamptz,          -- real time
    errors jsonb NOT NULL DEFAULT '[]',
    finished_at timestamptz
);
CREATE UNIQUE INDEX messages_once ON fleet.messages (recipient_kind, recipient, dedupe_key) WHERE dedupe_key IS NOT NULL;
CREATE INDEX messages_waiting ON fleet.messages (routed_to, rank DESC, due_at, id) WHERE state IN ('waiting', 'claimed');
CREATE INDEX messages_unrouted ON fleet.messages (id) WHERE state = 'waiting' AND routed_to IS NULL;
CREATE INDEX messages_finished ON fleet.messages (finished_at) WHERE finished_at IS NOT NULL;

-- The pool: posts worth engaging with, each with every part of its score.
CREATE TABLE fleet.candidates (
    account text NOT NULL,
    platform_id text NOT NULL,
    author_id text NOT NULL,
    handle text NOT NULL,
    text text NOT NULL,
    topic text NOT NULL,
    origin text NOT NULL,                  -- search, or the message that delegated it
    posted_at timestamptz NOT NULL,
    found_at timestamptz NOT NULL,
    scored_at timestamptz NOT NULL,
    metrics jsonb NOT NULL,
    score double precision NOT NULL CHECK (score BETWEEN 0 AND 100),
    parts jsonb NOT NULL,
    state text NOT NULL CHECK (state IN ('waiting', 'taken', 'proposed', 'passed', 'given_up')),
    reason text,
    taken_by uuid,
    taken_until timestamptz,               -- real time
    intent bigint,
    decided_at timestamptz,
    PRIMARY KEY (account, platform_id)
);
CREATE INDEX candidates_best ON fleet.candidates (account, score DESC, platform_id) WHERE state = 'waiting';
CREATE INDEX candidates_found ON fleet.candidates (found_at);

-- How far a worker has read a stream of the platform's. The position is a platform id, which only rises.
CREATE TABLE fleet.cursors (
    account text NOT NULL,
    name text NOT NULL,
    position text NOT NULL,
    baseline text NOT NULL,                -- where the first start began: nothing older is ever acted on
    started_at timestamptz NOT NULL,       -- when: nor is what was posted before
    ceiling text,                          -- a walk through several pages: the newest it met, and down to where it is stored
    reached text,
    moved_at timestamptz NOT NULL,
    PRIMARY KEY (account, name)
);

-- Whoever addressed the account: one row a post, from being seen to being answered.
CREATE TABLE fleet.interactions (
    account text NOT NULL,
    platform_id text NOT NULL,
    author_id text NOT NULL,
    handle text NOT NULL,
    text text NOT NULL,
    conversation_id text,
    kind text NOT NULL CHECK (kind IN ('direct', 'indirect', 'own', 'fleet')),
    summons boolean NOT NULL,              -- the platform lets the account reply here
    request text NOT NULL CHECK (request IN ('answer', 'analyse', 'opt_out', 'none')),
    subject text,                          -- the post that it asks to look at
    state text NOT NULL CHECK (state IN ('seen', 'delegated', 'answered', 'ignored')),
    reason text,
    posted_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,           -- when to look again, for what is delegated
    intent bigint,
    message bigint,
    finding jsonb,                         -- what came back of a delegation
    settled_at timestamptz,
    taken_by uuid,
    taken_until timestamptz,               -- real time
    PRIMARY KEY (account, platform_id)
);
CREATE INDEX interactions_seen ON fleet.interactions (seen_at DESC, platform_id DESC);
CREATE INDEX interactions_open ON fleet.interactions (account, due_at) WHERE state IN ('seen', 'delegated');
CREATE INDEX interactions_answered ON fleet.interactions (account, author_id, settled_at) WHERE state = 'answered';
CREATE INDEX interactions_conversation ON fleet.interactions (account, conversation_id) WHERE state = 'answered';

CREATE TABLE fleet.health_snapshots (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    taken_at timestamptz NOT NULL,
    status text NOT NULL CHECK (status IN ('healthy', 'warning', 'critical')),
    report jsonb NOT NULL
);
CREATE INDEX health_snapshots_time ON fleet.health_snapshots (taken_at);

-- What maintenance sweeps by time.
CREATE INDEX events_time ON fleet.events (at);
CREATE INDEX runs_time ON fleet.runs (started_at);
CREATE INDEX incarnations_ended ON fleet.incarnations (ended_at) WHERE ended_at IS NOT NULL;
