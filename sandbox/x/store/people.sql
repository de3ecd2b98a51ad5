-- name: add_like
INSERT INTO likes (user_id, post_id, at_ms) VALUES (:user_id, :post_id, :at_ms) ON CONFLICT DO NOTHING;
-- name: delete_like
DELETE FROM likes WHERE user_id = :user_id AND post_id = :post_id;
-- name: list_liked_posts
-- Newest post first, so that a page continues at the post that ended the last one.
SELECT posts.* FROM likes JOIN posts ON posts.id = likes.post_id
WHERE likes.user_id = :user_id AND posts.id < :until_id AND posts.deleted_ms IS NULL
ORDER BY posts.id DESC LIMIT :count;
-- name: list_liking_users
SELECT users.* FROM likes JOIN users ON users.id = likes.user_id
WHERE likes.post_id = :post_id AND users.id < :until_id
ORDER BY users.id DESC LIMIT :count;

-- name: list_reposting_users
SELECT DISTINCT users.* FROM posts JOIN users ON users.id = posts.author_id
WHERE posts.repost_of = :post_id AND posts.deleted_ms IS NULL AND users.id < :until_id
ORDER BY users.id DESC LIMIT :count;
-- name: count_likes_of
SELECT count(*) FROM likes WHERE user_id = :user_id;

-- name: add_bookmark
INSERT INTO bookmarks (user_id, post_id, at_ms) VALUES (:user_id, :post_id, :at_ms) ON CONFLICT DO NOTHING;
-- name: delete_bookmark
DELETE FROM bookmarks WHERE user_id = :user_id AND post_id = :post_id;
-- name: list_bookmarked_posts
SELECT posts.* FROM bookmarks JOIN posts ON posts.id = bookmarks.post_id
WHERE bookmarks.user_id = :user_id AND posts.id < :until_id AND posts.deleted_ms IS NULL
ORDER BY posts.id DESC LIMIT :count;

-- name: add_follow
INSERT INTO follows (user_id, followed_id, at_ms) VALUES (:user_id, :followed_id, :at_ms) ON CONFLICT DO NOTHING;
-- name: has_follow
SELECT EXISTS (SELECT 1 FROM follows WHERE user_id = :user_id AND followed_id = :followed_id);
-- name: delete_follow
DELETE FROM follows WHERE user_id = :user_id AND followed_id = :followed_id;
-- name: add_to_follow_counts
UPDATE users SET
    followers = max(0, followers + :step * (id = :followed_id)),
    following = max(0, following + :step * (id = :user_id))
WHERE id IN (:user_id, :followed_id);
-- name: list_followers
SELECT users.* FROM follows JOIN users ON users.id = follows.user_id
WHERE follows.followed_id = :user_id AND users.id < :until_id
ORDER BY users.id DESC LIMIT :count;
-- name: list_following
SELECT users.* FROM follows JOIN users ON users.id = follows.followed_id
WHERE follows.user_id = :user_id AND users.id < :until_id
ORDER BY users.id DESC LIMIT :count;
-- name: list_home_timeline
-- The newest posts of whom the user follows, and the user's own.
SELECT posts.* FROM posts
WHERE posts.id > :since_id AND posts.id < :until_id
    AND posts.created_ms >= :start_ms AND posts.created_ms < :end_ms AND posts.deleted_ms IS NULL
    AND (
        posts.author_id = :user_id
        OR posts.author_id IN (SELECT followed_id FROM follows WHERE user_id = :user_id)
    )
    AND NOT (:no_replies AND posts.reply_to IS NOT NULL)
    AND NOT (:no_reposts AND (posts.repost_of IS NOT NULL OR posts.text GLOB 'RT @*'))
ORDER BY posts.id DESC LIMIT :count;

-- name: add_mute
INSERT INTO mutes (user_id, muted_id, at_ms) VALUES (:user_id, :muted_id, :at_ms) ON CONFLICT DO NOTHING;
-- name: delete_mute
DELETE FROM mutes WHERE user_id = :user_id AND muted_id = :muted_id;
-- name: list_muted
SELECT users.* FROM mutes JOIN users ON users.id = mutes.muted_id
WHERE mutes.user_id = :user_id AND users.id < :until_id
ORDER BY users.id DESC LIMIT :count;
