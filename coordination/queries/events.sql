-- What happened, as persons look for it. Every query reads a snapshot and locks nothing.

-- name: list_events
-- The newest events, newest first: of these severities, from a worker, a slot or another source, since a fleet time or so
-- many seconds of it; backwards along the primary key until there are enough.
SELECT e.id::text AS id, e.at, e.severity, e.kind, e.source, e.message, e.data
FROM fleet.events e
WHERE e.severity = ANY (%(severities)s::text[])
    AND (%(source)s::text IS NULL OR e.source = %(source)s::text OR split_part(e.source, '/', 1) = %(source)s::text)
    AND (%(since)s::timestamptz IS NULL OR e.at >= %(since)s::timestamptz)
    AND (%(ago_s)s::double precision IS NULL OR e.at >= fleet.now() - make_interval(secs => %(ago_s)s::double precision))
ORDER BY e.id DESC LIMIT %(number)s::bigint;
