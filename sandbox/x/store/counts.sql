-- name: add_meter
INSERT INTO meters (account, endpoint, window_s, requests) VALUES (:account, :endpoint, :window_s, :requests)
ON CONFLICT (account, endpoint, window_s) DO UPDATE SET requests = excluded.requests
RETURNING id;
-- name: list_meters
SELECT id, account, endpoint, window_s, requests FROM meters ORDER BY account, endpoint, window_s;
-- name: add_take
INSERT INTO takes (meter_id, at_ms, started_s) VALUES (:meter_id, :at_ms, :started_s);
-- name: list_takes_after
-- Reads only what came since: costs as many rows as it returns.
SELECT seq, meter_id, at_ms, started_s FROM takes WHERE seq > :seq ORDER BY seq;
-- name: count_refused
-- Along an index of the refused ones alone.
SELECT account, endpoint, count(*) FROM requests WHERE status = 429 GROUP BY account, endpoint;
