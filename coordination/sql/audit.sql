-- Audit and events: what persons changed, and what happened.

-- Inside a writer's own transaction; not granted to any role.
CREATE OR REPLACE FUNCTION fleet.write_audit(actor text, action text, target text, reason text, details jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF length(trim(coalesce(write_audit.actor, ''))) = 0 THEN
        PERFORM fleet.refuse('actor', write_audit.actor, 'the name of who asks for the change');
    END IF;
    IF length(trim(coalesce(write_audit.reason, ''))) = 0 OR write_audit.reason ~ '[[:cntrl:]]' THEN
        PERFORM fleet.refuse('reason', write_audit.reason, 'a sentence that says why, without control characters');
    END IF;
    INSERT INTO fleet.audits (at, actor, login, action, target, reason, details)
    VALUES (fleet.now(), left(write_audit.actor, 200), session_user, write_audit.action, left(write_audit.target, 500),
        left(write_audit.reason, 1000), write_audit.details);
END $$;

-- A text cut to n characters with an ellipsis, for one line to a person. Locks nothing.
CREATE OR REPLACE FUNCTION fleet.shorten(text text, n integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN length(text) > n THEN left(text, n - 1) || '…' ELSE text END;

-- Inside a writer's own transaction; not granted to any role.
CREATE OR REPLACE FUNCTION fleet.emit(severity text, kind text, source text, message text, data jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO fleet.events (at, severity, kind, source, message, data)
    VALUES (fleet.now(), emit.severity, emit.kind, emit.source, left(emit.message, 1000), emit.data);
END $$;

-- A worker says what happened. One insert, not flushed.
CREATE OR REPLACE FUNCTION fleet.report_event(incarnation uuid, severity text, kind text, message text, data jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    life := fleet.require_incarnation(incarnation);
    IF report_event.severity IS NULL OR report_event.severity NOT IN ('debug', 'info', 'warning', 'error') THEN
        PERFORM fleet.refuse('severity', report_event.severity, 'debug, info, warning or error');
    END IF;
    PERFORM fleet.emit(report_event.severity, report_event.kind, life.worker || '/' || life.slot, report_event.message,
        report_event.data);
END $$;

-- A host's manager says what happened. One insert, not flushed.
CREATE OR REPLACE FUNCTION fleet.report_host_event(severity text, kind text, source text, message text, data jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    IF report_host_event.severity IS NULL OR report_host_event.severity NOT IN ('debug', 'info', 'warning', 'error') THEN
        PERFORM fleet.refuse('severity', report_host_event.severity, 'debug, info, warning or error');
    END IF;
    PERFORM fleet.emit(report_host_event.severity, report_host_event.kind, report_host_event.source, report_host_event.message,
        report_host_event.data);
END $$;
