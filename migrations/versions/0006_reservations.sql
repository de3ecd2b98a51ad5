-- Shared things with a capacity. Columns ending in _at hold fleet time unless the comment says real time.

-- What can be reserved. A pool that nobody configured is made at first use with its kind's capacity; without a kind it is one
-- thing for one holder.
CREATE TABLE fleet.resource_kinds (
    resource_type text NOT NULL,
    kind text NOT NULL,
    capacity integer NOT NULL CHECK (capacity BETWEEN 1 AND 1000000),
    meaning text NOT NULL,
    PRIMARY KEY (resource_type, kind)
);
INSERT INTO fleet.resource_kinds (resource_type, kind, capacity, meaning) VALUES
    ('content', 'premium', 1, 'a post worth a quote'),
    ('content', 'reply_opportunity', 1, 'a post worth a reply'),
    ('content', 'analysis', 1, 'a post to be analysed'),
    ('content', 'trending', 1, 'a post that many look at'),
    ('content', 'pipeline', 100, 'items that are worked on at a time'),
    ('api_quota', 'rate', 1, 'requests of a pool of the rate limiter, named by it'),
    ('api_quota', 'request', 1, 'requests for an operation: tweet, search or fetch'),
    ('api_quota', 'endpoint', 1, 'requests of one endpoint, by its own name'),
    ('api_quota', 'priority', 1, 'requests ahead of others, as critical ones'),
    ('db_connection', 'connections', 20, 'connections to a database'),
    ('memory', 'megabytes', 1024, 'megabytes of memory'),
    ('cpu', 'percent', 100, 'percent of a processor'),
    ('storage', 'megabytes', 10240, 'megabytes of a disk'),
    ('conversation', 'thread', 1, 'a thread, for one at a time'),
    ('conversation', 'reply_chain', 1, 'a chain of replies, one after another'),
    ('conversation', 'discussion', 3, 'places in a discussion'),
    ('conversation', 'community', 5, 'places in a community');

-- One row a pool: the mutex over its reservations and its queue.
CREATE TABLE fleet.pools (
    resource_type text NOT NULL,
    resource_id text NOT NULL CHECK (length(resource_id) BETWEEN 1 AND 512),
    kind text,
    capacity integer NOT NULL,             -- now
    min_capacity integer NOT NULL,         -- between these two the load moves it
    max_capacity integer NOT NULL,
    reserved integer NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    overhang integer NOT NULL DEFAULT 0 CHECK (overhang >= 0),  -- still reserved above a capacity that shrank
    strategy text NOT NULL DEFAULT 'priority' CHECK (strategy IN ('priority', 'equal', 'proportional')),
    queue_bound integer NOT NULL DEFAULT 1000 CHECK (queue_bound BETWEEN 0 AND 10000),
    ageing_s double precision NOT NULL DEFAULT 60 CHECK (ageing_s BETWEEN 0.001 AND 86400),
    escalate_after_s double precision NOT NULL DEFAULT 300 CHECK (escalate_after_s BETWEEN 0.001 AND 604800),
    alert_after_s double precision NOT NULL DEFAULT 1800 CHECK (alert_after_s BETWEEN 0.001 AND 604800),
    is_standing boolean NOT NULL DEFAULT true,  -- false: made at first use, goes when nobody uses it
    load double precision,
    hold_s double precision,               -- how long a reservation is held, lately
    wait_factor double precision NOT NULL DEFAULT 1,  -- what waits took, by what they were reckoned to take
    granted bigint NOT NULL DEFAULT 0,
    conflicts bigint NOT NULL DEFAULT 0,   -- requests that found no room or others before them
    overflows bigint NOT NULL DEFAULT 0,   -- requests that found the queue full
    time_outs bigint NOT NULL DEFAULT 0,   -- waiters that went without
    expired bigint NOT NULL DEFAULT 0,     -- holders that outstayed
    recovered bigint NOT NULL DEFAULT 0,   -- holders that died
    late bigint NOT NULL DEFAULT 0,        -- renewals and releases of what was lost
    escalated bigint NOT NULL DEFAULT 0,
    waits bigint NOT NULL DEFAULT 0,       -- waits that ended with a reservation: number, sum, longest
    wait_s double precision NOT NULL DEFAULT 0,
    longest_wait_s double precision NOT NULL DEFAULT 0,
    reserved_unit_s double precision NOT NULL DEFAULT 0,   -- units x seconds, until measured_at
    capacity_unit_s double precision NOT NULL DEFAULT 0,
    recent_use double precision NOT NULL DEFAULT 0,        -- 0 to 1, fading with 5 minutes
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp(),  -- real time; also when it was last used
    PRIMARY KEY (resource_type, resource_id),
    CHECK (min_capacity >= 0 AND min_capacity <= capacity AND capacity <= max_capacity AND max_capacity <= 1000000),
    CHECK (reserved <= capacity + overhang)
);
INSERT INTO fleet.pools (resource_type, resource_id, kind, capacity, min_capacity, max_capacity)
VALUES ('content', 'content_pipeline', 'pipeline', 100, 25, 100);

-- The id is a fencing token: each grant has one of its own, higher than all before.
CREATE TABLE fleet.reservations (
    id bigint PRIMARY KEY,
    resource_type text NOT NULL,
    resource_id text NOT NULL,
    units integer NOT NULL CHECK (units >= 1),
    need double precision NOT NULL,
    incarnation uuid NOT NULL,
    worker_id text NOT NULL,
    priority text NOT NULL,
    reserved_at timestamptz NOT NULL,      -- real time
    lease_expires_at timestamptz NOT NULL, -- real time
    waited_s double precision,
    estimated_s double precision,          -- what the waiter was told
    ended_at timestamptz,                  -- real time
    end_reason text CHECK (end_reason IN ('released', 'used_up', 'expired', 'holder_died')),
    account text,                          -- of a quota
    grant_id bigint,                       -- its units in the rate limiter
    ticket uuid,                           -- of the request
    CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
    CHECK ((resource_type = 'api_quota') = (grant_id IS NOT NULL))
);
CREATE INDEX reservations_held ON fleet.reservations (resource_type, resource_id, lease_expires_at) WHERE ended_at IS NULL;
CREATE INDEX reservations_waited ON fleet.reservations (resource_type, resource_id, id) WHERE estimated_s IS NOT NULL;
CREATE INDEX reservations_ticket ON fleet.reservations (ticket) WHERE ended_at IS NULL;
CREATE INDEX reservations_ended ON fleet.reservations (ended_at) WHERE ended_at IS NOT NULL;

-- Who waits. Where shares count, also who asked lately without waiting: a greedy neighbour must not take what they ask for.
CREATE TABLE fleet.reservation_queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ticket uuid NOT NULL,                  -- the asker's own name for its request
    resource_type text NOT NULL,
    resource_id text NOT NULL,
    units integer NOT NULL,
    need double precision NOT NULL,
    incarnation uuid NOT NULL,
    worker_id text NOT NULL,
    priority text NOT NULL,
    rank integer NOT NULL,
    duration_s double precision NOT NULL,
    waits boolean NOT NULL,
    asked_at timestamptz NOT NULL,         -- real time
    place timestamptz NOT NULL,            -- asked_at less what the rank is worth: who is earlier here is first
    poll_by timestamptz NOT NULL,          -- real time
    deadline_at timestamptz NOT NULL,      -- real time
    reckoned_s double precision,           -- the wait by the pool's present holders, before it is calibrated
    estimated_s double precision,
    escalated_at timestamptz,              -- real time
    alerted_at timestamptz                 -- real time
);
CREATE INDEX reservation_queue_ticket ON fleet.reservation_queue (ticket);
CREATE INDEX reservation_queue_place ON fleet.reservation_queue (resource_type, resource_id, place, id);
