-- Alerts: what a person should look at. One open row a key, so that what goes on failing is one thing and not a flood.

-- Raises an alert, or says again that it holds; true where none was open under the key. Takes the key's lock.
CREATE OR REPLACE FUNCTION fleet.raise_alert(
    key text, severity text, kind text, source text, message text, data jsonb DEFAULT '{}'
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    real timestamptz;
BEGIN
    PERFORM fleet.require_read_committed();
    IF raise_alert.key IS NULL OR length(raise_alert.key) NOT BETWEEN 1 AND 300 THEN
        PERFORM fleet.refuse('key', raise_alert.key, '1 to 300 characters');
    END IF;
    IF raise_alert.severity IS NULL OR raise_alert.severity NOT IN ('info', 'warning', 'error', 'critical') THEN
        PERFORM fleet.refuse('severity', raise_alert.severity, 'info, warning, error or critical');
    END IF;
    PERFORM pg_advisory_xact_lock(fleet.lock_key('alert', raise_alert.key));
    real := clock_timestamp();
    UPDATE fleet.alerts a SET last_at = real, times = a.times + 1, severity = raise_alert.severity,
        message = left(raise_alert.message, 2000), data = raise_alert.data
    WHERE a.key = raise_alert.key AND a.cleared_at IS NULL;
    IF FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO fleet.alerts (key, severity, kind, source, message, data, raised_at, last_at)
    VALUES (raise_alert.key, raise_alert.severity, raise_alert.kind, raise_alert.source, left(raise_alert.message, 2000),
        raise_alert.data, real, real);
    PERFORM fleet.emit(CASE raise_alert.severity WHEN 'critical' THEN 'error' ELSE raise_alert.severity END, 'alert',
        raise_alert.source, 'alert: ' || raise_alert.message, jsonb_build_object('key', raise_alert.key));
    RETURN true;
END $$;

-- Takes back what is open under a key; false where nothing is.
CREATE OR REPLACE FUNCTION fleet.clear_alert(key text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    cleared fleet.alerts;
BEGIN
    UPDATE fleet.alerts a SET cleared_at = clock_timestamp() WHERE a.key = clear_alert.key AND a.cleared_at IS NULL
    RETURNING * INTO cleared;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM fleet.emit('info', 'alert_cleared', cleared.source, 'no more: ' || cleared.message,
        jsonb_build_object('key', cleared.key));
    RETURN true;
END $$;

-- A worker raises an alert, or says again that it holds. Keys of escalations are not its own: see escalate. Takes the key's lock.
CREATE OR REPLACE FUNCTION fleet.report_alert(
    incarnation uuid, key text, severity text, kind text, message text, data jsonb DEFAULT '{}'
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    life fleet.incarnations := fleet.require_incarnation(incarnation);
BEGIN
    IF starts_with(report_alert.key, 'escalation:') THEN
        PERFORM fleet.refuse('key', report_alert.key, 'a key that does not begin with escalation:');
    END IF;
    RETURN fleet.raise_alert(report_alert.key, report_alert.severity, report_alert.kind, life.worker || '/' || life.slot,
        report_alert.message, report_alert.data);
END $$;

-- A worker takes an alert back. One row by key; false where none is open.
CREATE OR REPLACE FUNCTION fleet.withdraw_alert(incarnation uuid, key text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM fleet.require_incarnation(incarnation);
    RETURN fleet.clear_alert(withdraw_alert.key);
END $$;

-- A person has seen an alert. Audited, flushed; takes the alert's row. It stays open until what raised it takes it back.
CREATE OR REPLACE FUNCTION fleet.acknowledge_alert(alert bigint, actor text, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    seen fleet.alerts;
BEGIN
    PERFORM fleet.require_read_committed();
    PERFORM set_config('synchronous_commit', 'on', true);
    UPDATE fleet.alerts a SET acknowledged_by = left(acknowledge_alert.actor, 200), acknowledged_at = clock_timestamp()
    WHERE a.id = acknowledge_alert.alert RETURNING * INTO seen;
    IF NOT FOUND THEN
        PERFORM fleet.refuse('alert', acknowledge_alert.alert::text, 'the id of an alert: see socialfleet alerts list');
    END IF;
    PERFORM fleet.write_audit(actor, 'acknowledge_alert', seen.key, acknowledge_alert.reason);
    RETURN jsonb_build_object('id', seen.id::text, 'key', seen.key, 'open', seen.cleared_at IS NULL);
END $$;
