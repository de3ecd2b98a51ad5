-- A worker in psql: it takes a post for itself, reserves the quota for a quote of it, proposes the quote and gives both back.
--
--   psql "$(cat .socialfleet/dsn/worker)" -v account=sandbox -v tweet=1801 -v text='Well said.' -f docs/howto/psql-worker.sql
--
-- The session is the worker's life: while psql runs, what it holds is its own; when it is killed, that is free for others at
-- once. So psql needs a connection of its own to the server, with no pooler between.
\set ON_ERROR_STOP on
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;

-- Who it is: a new UUID for each life, and what tells this process from all others, so that its manager's host can say that it died.
SELECT gen_random_uuid() AS me \gset
\set host `uname -n`
\set pid `echo $PPID`
\set started `cut -d ' ' -f 22 /proc/$PPID/stat`
\set boot `cat /proc/sys/kernel/random/boot_id`
\set namespace `stat -Lc %i /proc/$PPID/ns/pid`
SELECT fleet.open_incarnation(:'me', 'psql', 1, :'host', :'pid', :'started', :'boot', :'namespace') AS opened \gset

-- One worker at a time on one post, and none on a post that was engaged lately.
SELECT fleet.request_lock(:'me', :'tweet', 'psql/1', 'quote', duration_minutes => 5) AS lock \gset
SELECT :'lock'::jsonb->>'granted' AS locked, :'lock'::jsonb->>'fencing_token' AS token, :'lock'::jsonb->>'reason' AS why \gset
\if :locked
    -- The quota is the rate limiter's own: what is reserved here nobody else is granted.
    SELECT fleet.reserve_api_quota(:'me', 'psql/1', 'tweet', 1, account => :'account') AS quota \gset
    SELECT :'quota'::jsonb->>'granted' AS reserved, :'quota'::jsonb->>'reservation_id' AS reservation,
        :'quota'::jsonb->>'reason' AS why \gset
    \if :reserved
        -- A proposal: the ledger sends it once, the poster does, after the policy and, where it is asked, a person agreed.
        SELECT 'proposed ' || fleet.propose(:'me', :'account', 'quote', :'tweet', :'text')::text;
        -- The poster takes a unit of its own when it sends.
        SELECT fleet.release_resource(:'me', :'reservation') AS released \gset
    \else
        \echo no quota: :why
    \endif
    SELECT fleet.release_lock(:'me', :'tweet', :'token') AS released \gset
\else
    \echo not locked: :why
\endif
SELECT fleet.close_incarnation(:'me', 'done') AS closed \gset
