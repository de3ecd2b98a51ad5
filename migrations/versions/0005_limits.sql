-- Several windows a limit, who wants of it, and what is booked. Columns ending in _at, and those named _until, hold fleet time unless the comment says real time.

-- One row is the mutex over all windows of an account's endpoint, or of a pool that several endpoints take from. What is
-- decided at every request stands in it, one element a window: those configured, the shortest first, then what headers tell of.
ALTER TABLE fleet.rate_limits
    ADD COLUMN kind text NOT NULL DEFAULT 'endpoint' CONSTRAINT rate_limits_kind_check CHECK (kind IN ('endpoint', 'pool')),
    ADD COLUMN members text[] NOT NULL DEFAULT '{}',            -- a pool's endpoints; {*} is every one of the account
    ADD COLUMN fair_share boolean NOT NULL DEFAULT true,        -- false: by priority alone
    ADD COLUMN longer_requests integer[] NOT NULL DEFAULT '{}', -- the windows beside (requests, window_s)
    ADD COLUMN longer_window_s integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN most_requests integer[] NOT NULL DEFAULT '{}',   -- how high headers may raise each window; empty: not at all
    ADD COLUMN header_raise integer,                            -- a higher limit that one epoch told, and which
    ADD COLUMN header_raise_reset bigint,
    ADD COLUMN header_window integer,                           -- which of windows_s they speak of
    ADD COLUMN day_headers jsonb NOT NULL DEFAULT '{}',         -- what the 24-hour headers told, by whom they count
    ADD COLUMN limits integer[] NOT NULL DEFAULT '{}',          -- in force now
    ADD COLUMN windows_s integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN burst integer[] NOT NULL DEFAULT '{}',           -- 0: an exact log
    ADD COLUMN spacing_us bigint[] NOT NULL DEFAULT '{}',       -- 0: an exact log
    ADD COLUMN tat timestamptz[] NOT NULL DEFAULT '{}',         -- GCRA's theoretical arrival time
    ADD COLUMN occupied integer[] NOT NULL DEFAULT '{}',        -- never less than the log's count; empty: count anew
    ADD COLUMN counted_to timestamptz[] NOT NULL DEFAULT '{}',  -- what was settled until then is counted no more
    ADD COLUMN told integer[] NOT NULL DEFAULT '{}',            -- the percent that an event told
    ADD COLUMN unsettled integer NOT NULL DEFAULT 0,
    ADD COLUMN room integer NOT NULL DEFAULT 0,                 -- units free at the last decision
    ADD COLUMN delay_s double precision NOT NULL DEFAULT 15,    -- fleet seconds from a grant to the platform's count
    ADD COLUMN patience_s double precision NOT NULL DEFAULT 3,  -- fleet seconds in which who was told to come may come
    ADD COLUMN clock_rate double precision NOT NULL DEFAULT 1,
    ADD COLUMN refreshed_at timestamptz NOT NULL DEFAULT '-infinity', -- real time
    ADD COLUMN next_charge_at timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN since_flush integer NOT NULL DEFAULT 0,
    ADD COLUMN flush_every integer NOT NULL DEFAULT 1,
    ADD COLUMN line_until timestamptz NOT NULL DEFAULT '-infinity',   -- nobody waits after it
    ADD COLUMN lacked_at timestamptz NOT NULL DEFAULT '-infinity',    -- when somebody found too little the last time
    ADD COLUMN kept_critical integer NOT NULL DEFAULT 0,
    ADD COLUMN kept_low integer NOT NULL DEFAULT 0,
    ADD COLUMN critical_seen_at timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN low_seen_at timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN shares_at timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN refused_at timestamptz,                          -- the platform's last refusal
    ADD COLUMN refusals_in_row integer NOT NULL DEFAULT 0,
    ADD COLUMN granted bigint NOT NULL DEFAULT 0,
    ADD COLUMN refused bigint NOT NULL DEFAULT 0,
    ADD COLUMN waited bigint NOT NULL DEFAULT 0,
    ADD COLUMN waited_s double precision NOT NULL DEFAULT 0,
    ADD COLUMN longest_wait_s double precision NOT NULL DEFAULT 0;

ALTER TABLE fleet.rate_grants
    ADD COLUMN units integer NOT NULL DEFAULT 1 CONSTRAINT rate_grants_units_check CHECK (units BETWEEN 1 AND 1000000),
    ADD COLUMN held boolean NOT NULL DEFAULT false,             -- a reserved quota: no request is under way yet
    ADD COLUMN ticket uuid;                                     -- the asker's name for it, for an answer that is lost
DROP INDEX fleet.rate_grants_occupying;
CREATE INDEX rate_grants_settled ON fleet.rate_grants (account, endpoint, settled_at);

UPDATE fleet.rate_limits r SET unsettled = (SELECT count(*) FROM fleet.rate_grants g
    WHERE g.account = r.account AND g.endpoint = r.endpoint AND g.settled_at IS NULL);

-- The cautious defaults, and the platform's own figures as what headers may raise them to. An account's row that was made from
-- a default, and that nobody changed since, follows it.
UPDATE fleet.rate_limits r SET longer_requests = d.longer_requests, longer_window_s = d.longer_window_s,
    most_requests = d.most_requests
FROM (VALUES
    ('search_tweets', 180, '{720,17280}'::integer[], '{3600,86400}'::integer[], '{300,720,17280}'::integer[]),
    ('post_tweet', 50, '{200,2400}', '{3600,86400}', '{100,200,10000}'),
    ('fetch_mentions', 75, '{300,7200}', '{3600,86400}', '{300,300,7200}'),
    ('get_tweets', 300, '{}', '{}', '{5000}'),
    ('user_tweets', 300, '{}', '{}', '{900}'),
    ('users_me', 30, '{}', '{}', '{75}'),
    ('like_tweet', 50, '{1000}', '{86400}', '{50,1000}')
) AS d(endpoint, requests, longer_requests, longer_window_s, most_requests)
WHERE r.endpoint = d.endpoint AND r.requests = d.requests AND r.window_s = 900;

-- Acts go by priority alone, also where a person changed their limit.
UPDATE fleet.rate_limits SET fair_share = false WHERE endpoint IN ('post_tweet', 'like_tweet');

-- The pools: a request takes a unit of each that its endpoint belongs to.
INSERT INTO fleet.rate_limits (account, endpoint, requests, window_s, kind, members)
SELECT a.account, p.endpoint, p.requests, p.window_s, 'pool', p.members
FROM (SELECT DISTINCT r.account FROM fleet.rate_limits r) a,
    (VALUES ('api_tweets', 50, 3600, '{post_tweet}'::text[]), ('api_requests', 900, 900, '{*}')) AS p(endpoint, requests, window_s, members)
ON CONFLICT DO NOTHING;

-- Who wants of an endpoint and was told to come back, and what is booked.
CREATE TABLE fleet.rate_demands (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text NOT NULL,
    endpoint text NOT NULL,
    incarnation uuid NOT NULL,             -- the life that asked last
    worker_id text NOT NULL,
    rank integer NOT NULL,
    units integer NOT NULL,
    booked boolean NOT NULL,
    waiting boolean NOT NULL,
    used integer NOT NULL,                 -- in the share's span, at most a second old
    first_asked_at timestamptz NOT NULL,
    asked_at timestamptz NOT NULL,
    returns_at timestamptz NOT NULL,       -- when it was told to come
    keep_until timestamptz NOT NULL,       -- a unit is held for it until then
    rests_until timestamptz
);
CREATE UNIQUE INDEX rate_demands_who ON fleet.rate_demands (account, endpoint, worker_id, rank, (units > 1)) WHERE NOT booked;
CREATE INDEX rate_demands_line ON fleet.rate_demands (account, endpoint);

-- One row while the server has not crashed since the limits were last put right.
CREATE UNLOGGED TABLE fleet.rate_epoch (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    started_at timestamptz NOT NULL        -- real time
);
INSERT INTO fleet.rate_epoch (started_at) VALUES (clock_timestamp());
