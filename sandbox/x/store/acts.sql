-- name: list_acts
-- Backwards along seq; an action that is rare costs a walk over what isn't it.
SELECT seq, at_ms, action, target, id, text FROM writes
WHERE seq < :before AND action IN (SELECT value FROM json_each(:actions))
ORDER BY seq DESC LIMIT :count;
-- name: count_acts
SELECT action, count(*) FROM writes GROUP BY action;
-- name: list_replies_to
-- Along replies_by_post, oldest first.
SELECT * FROM posts WHERE reply_to = :reply_to AND deleted_ms IS NULL ORDER BY id LIMIT :count;
-- name: list_newest_posts
SELECT * FROM posts WHERE id < :until_id AND deleted_ms IS NULL ORDER BY id DESC LIMIT :count;
