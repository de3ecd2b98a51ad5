-- name: add_write
INSERT INTO writes (at_ms, account, action, target, id, text)
VALUES (:at_ms, :account, :action, :target, :id, :text);
-- name: list_writes
SELECT seq, at_ms, account, action, target, id, text FROM writes ORDER BY seq;
-- name: add_request
INSERT INTO requests (at_ms, method, path, account, endpoint, status)
VALUES (:at_ms, :method, :path, :account, :endpoint, :status);
-- name: list_requests
SELECT at_ms, method, path, account, endpoint, status FROM requests ORDER BY seq;

-- name: get_window
SELECT started_s, used FROM windows WHERE caller = :caller AND endpoint = :endpoint AND window_s = :window_s;
-- name: set_window
INSERT INTO windows (caller, endpoint, window_s, started_s, used)
VALUES (:caller, :endpoint, :window_s, :started_s, :used)
ON CONFLICT (caller, endpoint, window_s) DO UPDATE SET started_s = excluded.started_s, used = excluded.used;
