-- name: add_media
INSERT INTO media (id, media_type, category, total_bytes, created_ms)
VALUES (:id, :media_type, :category, :total_bytes, :created_ms);
-- name: get_last_media_id
SELECT max(id) FROM media;
-- name: get_media
SELECT *, (SELECT coalesce(sum(bytes), 0) FROM segments WHERE media_id = media.id) AS received_bytes
FROM media WHERE id = :id;
-- name: set_segment
INSERT INTO segments (media_id, position, bytes) VALUES (:media_id, :position, :bytes)
ON CONFLICT (media_id, position) DO UPDATE SET bytes = excluded.bytes;
-- name: set_finalized
UPDATE media SET finalized_ms = :at_ms WHERE id = :id;
-- name: set_alt_text
UPDATE media SET alt_text = :alt_text WHERE id = :id;
-- name: attach_media
INSERT INTO attachments (post_id, position, media_id) VALUES (:post_id, :position, :media_id);
-- name: list_media_of
SELECT media.*, (SELECT coalesce(sum(bytes), 0) FROM segments WHERE media_id = media.id) AS received_bytes
FROM attachments JOIN media ON media.id = attachments.media_id
WHERE attachments.post_id = :post_id ORDER BY attachments.position;
