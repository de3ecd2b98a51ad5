-- Cron lines: which instants five fields in a time zone mean. PostgreSQL's own zones decide, so that every host has the same.

-- One field as its sorted numbers: *, a number or a name, a-b, any of them /step, and lists of those. FL001 else. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.parse_cron_field(field text, low integer, high integer, names text[] DEFAULT '{}') RETURNS integer[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    part text;
    pieces text[];
    first integer;
    last integer;
    found integer[] := '{}';
BEGIN
    FOREACH part IN ARRAY string_to_array(field, ',') LOOP
        pieces := regexp_match(part, '^(\*|[0-9]{1,2}|[a-z]{3})(?:-([0-9]{1,2}|[a-z]{3}))?(?:/([0-9]{1,2}))?$');
        IF pieces IS NULL OR (pieces[1] = '*' AND pieces[2] IS NOT NULL) OR pieces[3]::integer = 0 THEN
            PERFORM fleet.refuse('cron', part, 'in a field: *, a number or name, a-b, */n, a-b/n, a/n, and lists of them with commas');
        END IF;
        first := CASE WHEN pieces[1] = '*' THEN low WHEN pieces[1] ~ '^[0-9]' THEN pieces[1]::integer
            ELSE array_position(names, pieces[1]) + low - 1 END;
        last := CASE WHEN pieces[2] ~ '^[0-9]' THEN pieces[2]::integer WHEN pieces[2] IS NOT NULL
                THEN array_position(names, pieces[2]) + low - 1
            WHEN pieces[1] = '*' OR pieces[3] IS NOT NULL THEN high ELSE first END;
        IF first IS NULL OR last IS NULL OR first < low OR last > high OR first > last THEN
            PERFORM fleet.refuse('cron', part, format('in this field: from %s to %s%s, the smaller one first', low, high,
                CASE WHEN names <> '{}' THEN ' or ' || array_to_string(names, ' ') ELSE '' END));
        END IF;
        found := found || ARRAY(SELECT generate_series(first, last, coalesce(pieces[3]::integer, 1)));
    END LOOP;
    RETURN ARRAY(SELECT DISTINCT n FROM unnest(found) n ORDER BY n);
END $$;

-- FL001 unless the zone is an IANA name that PostgreSQL knows. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.require_zone(zone text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    -- What is no name would be taken for an offset with the sign turned round.
    IF zone IS NULL OR zone !~ '^(UTC|[A-Z][A-Za-z_]+(/[A-Za-z0-9_+-]+)+)$' THEN
        PERFORM fleet.refuse('zone', zone, 'an IANA time zone such as Europe/Paris, or UTC');
    END IF;
    PERFORM timestamptz '2000-01-01 00:00:00+00' AT TIME ZONE zone;
EXCEPTION WHEN invalid_parameter_value THEN
    PERFORM fleet.refuse('zone', zone, 'an IANA time zone that PostgreSQL knows: see pg_timezone_names');
END $$;

-- The first instant at which clocks in the zone show `wall` or later: in a gap that is its end, in an overlap the first of the two.
-- Locks nothing.
CREATE OR REPLACE FUNCTION fleet.first_instant(wall timestamp, zone text) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    at timestamptz := wall AT TIME ZONE zone;
    shown timestamp := at AT TIME ZONE zone;
    earlier timestamptz;
    low timestamptz;
    middle timestamptz;
BEGIN
    IF shown = wall THEN
        -- In an overlap PostgreSQL takes the later one: what the offset of the day before gives is the earlier one, if it exists.
        earlier := at - (((at - interval '24 hours') AT TIME ZONE zone) - ((at - interval '24 hours') AT TIME ZONE 'UTC')
            - (shown - (at AT TIME ZONE 'UTC')));
        RETURN CASE WHEN earlier < at AND (earlier AT TIME ZONE zone) = wall THEN earlier ELSE at END;
    END IF;
    low := at - (shown - wall);
    IF low > at THEN
        middle := low;
        low := at;
        at := middle;
    END IF;
    -- Clocks jump somewhere after `low` and not after `at`, on a full second.
    WHILE at - low > interval '1 second' LOOP
        middle := low + make_interval(secs => floor(extract(epoch FROM at - low) / 2)::double precision);
        IF (middle AT TIME ZONE zone) >= wall THEN
            at := middle;
        ELSE
            low := middle;
        END IF;
    END LOOP;
    RETURN at;
END $$;

-- Up to n instants that a line means, all after `after` and not after `until`, in order. As ever, where both the day of the month and
-- that of the week are restricted, either will do. Looks ten years ahead. Locks nothing; ten microseconds an instant.
CREATE OR REPLACE FUNCTION fleet.cron_slots(line text, zone text, after timestamptz, until timestamptz, n integer) RETURNS timestamptz[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    fields text[] := regexp_split_to_array(lower(trim(line)), '\s+');
    minutes integer[];
    hours integer[];
    days integer[];
    months integer[];
    weekdays integer[];
    either boolean;
    in_month boolean;
    in_week boolean;
    local timestamp;
    day date;
    last_day date;
    hour integer;
    minute integer;
    at timestamptz;
    latest timestamptz := after;
    found timestamptz[] := '{}';
BEGIN
    IF line IS NULL OR length(line) > 200 OR cardinality(fields) <> 5 THEN
        PERFORM fleet.refuse('cron', line, 'five fields: minute hour day-of-month month day-of-week');
    END IF;
    minutes := fleet.parse_cron_field(fields[1], 0, 59);
    hours := fleet.parse_cron_field(fields[2], 0, 23);
    days := fleet.parse_cron_field(fields[3], 1, 31);
    months := fleet.parse_cron_field(fields[4], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}');
    weekdays := fleet.parse_cron_field(fields[5], 0, 7, '{sun,mon,tue,wed,thu,fri,sat}');
    either := left(fields[3], 1) <> '*' AND left(fields[5], 1) <> '*';
    IF 7 = ANY(weekdays) THEN
        weekdays := weekdays || 0;
    END IF;
    -- What clocks showed by `after` is over: every later instant shows more, or shows again what it showed before.
    local := after AT TIME ZONE zone;
    day := local::date;
    last_day := least((until AT TIME ZONE zone)::date + 1, day + 3660);
    WHILE day <= last_day LOOP
        IF NOT extract(month FROM day)::integer = ANY(months) THEN
            day := (date_trunc('month', day::timestamp) + interval '1 month')::date;
            CONTINUE;
        END IF;
        in_month := extract(day FROM day)::integer = ANY(days);
        in_week := extract(dow FROM day)::integer = ANY(weekdays);
        IF (in_month AND in_week) OR (either AND (in_month OR in_week)) THEN
            FOREACH hour IN ARRAY hours LOOP
                CONTINUE WHEN day + make_interval(hours => hour + 1) <= local;
                FOREACH minute IN ARRAY minutes LOOP
                    CONTINUE WHEN day + make_interval(hours => hour, mins => minute) <= local;
                    at := fleet.first_instant(day + make_interval(hours => hour, mins => minute), zone);
                    IF at > until THEN
                        RETURN found;
                    END IF;
                    IF at > latest THEN
                        found := found || at;
                        latest := at;
                        IF cardinality(found) >= n THEN
                            RETURN found;
                        END IF;
                    END IF;
                END LOOP;
            END LOOP;
        END IF;
        day := day + 1;
    END LOOP;
    RETURN found;
END $$;

-- The first slot of a line after an instant; null where there is none in ten years. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.next_cron_slot(line text, zone text, after timestamptz) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN (fleet.cron_slots(line, zone, after, after + interval '87600 hours', 1))[1];
END $$;
