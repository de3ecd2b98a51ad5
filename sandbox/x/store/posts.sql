-- name: add_user
INSERT INTO users (
    id, username, name, created_ms, description, location, url, followers, following, verified, protected
) VALUES (
    :id, :username, :name, :created_ms, :description, :location, :url, :followers, :following, :verified,
    :protected
) ON CONFLICT (id) DO NOTHING;
-- name: get_user
SELECT * FROM users WHERE id = :id;
-- name: find_user
SELECT * FROM users WHERE username = :username;
-- name: count_posts_of
SELECT count(*) FROM posts WHERE author_id = :author_id AND deleted_ms IS NULL;

-- name: add_post
-- By position: binding names costs a world of 100,000 posts half a second. store.py gives this order.
INSERT INTO posts (
    id, author_id, text, created_ms, lang, retweets, replies, likes, quotes, bookmarks, impressions,
    reply_to, quote_of, repost_of, conversation_id, reply_settings, made_with_ai, paid_partnership
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
);
-- name: add_plain_post
-- The columns of a PlainPost in its order: half as many values to bind.
INSERT INTO posts (
    id, author_id, text, created_ms, lang, reply_to, quote_of, repost_of, conversation_id,
    retweets, replies, likes, quotes, bookmarks, impressions
) VALUES (
    ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0
);
-- name: set_words_in_memory
-- How many bytes of the index of words are gathered before they are written; 1 MiB unless a world is loaded.
INSERT INTO words (words, rank) VALUES ('hashsize', :bytes);
-- name: add_words
INSERT INTO words (rowid, body, marks) VALUES (?, ?, ?);
-- name: delete_words
-- The row's words as they were added: the index keeps no copy of them.
INSERT INTO words (words, rowid, body, marks) VALUES ('delete', ?, ?, ?);
-- name: delete_all_words
INSERT INTO words (words) VALUES ('delete-all');
-- name: has_post
SELECT EXISTS (SELECT 1 FROM posts WHERE id = :id);
-- name: get_post
SELECT * FROM posts WHERE id = :id AND deleted_ms IS NULL;
-- name: is_hidden
SELECT hidden FROM posts WHERE id = :id;
-- name: set_hidden
UPDATE posts SET hidden = :hidden WHERE id = :id;
-- name: set_deleted
UPDATE posts SET deleted_ms = :at_ms WHERE id = :id;
-- name: count_posts
SELECT count(*) FROM posts WHERE deleted_ms IS NULL;
-- name: get_last_id
-- Also a deleted one's: an id is given once. Two looks along posts_by_author, the second at deleted posts only.
SELECT max(
    (SELECT coalesce(max(id), 0) FROM posts WHERE author_id = :author_id AND deleted_ms IS NULL),
    (SELECT coalesce(max(id), 0) FROM posts WHERE author_id = :author_id AND deleted_ms IS NOT NULL)
);
-- name: list_posts_of
-- Reads along posts_by_author: costs as many rows as it returns.
SELECT * FROM posts
WHERE author_id = :author_id AND id > :since_id AND id < :until_id
    AND created_ms >= :start_ms AND created_ms < :end_ms AND deleted_ms IS NULL
ORDER BY id DESC LIMIT :count;
-- name: get_author
-- Also of a deleted post: who answered it still answered its author.
SELECT author_id FROM posts WHERE id = :id;
-- name: list_chosen_posts_of
SELECT * FROM posts
WHERE author_id = :author_id AND id > :since_id AND id < :until_id
    AND created_ms >= :start_ms AND created_ms < :end_ms AND deleted_ms IS NULL
    AND NOT (:no_replies AND reply_to IS NOT NULL)
    AND NOT (:no_reposts AND (repost_of IS NOT NULL OR text GLOB 'RT @*'))
ORDER BY id DESC LIMIT :count;
-- name: list_quotes_of
SELECT * FROM posts
WHERE quote_of = :quote_of AND id > :since_id AND id < :until_id
    AND created_ms >= :start_ms AND created_ms < :end_ms AND deleted_ms IS NULL
ORDER BY id DESC LIMIT :count;
-- name: get_repost
SELECT * FROM posts WHERE repost_of = :repost_of AND author_id = :author_id AND deleted_ms IS NULL;
-- name: has_reply
-- Also a deleted one: an answer that was taken back was an answer.
SELECT EXISTS (SELECT 1 FROM posts WHERE reply_to = :reply_to AND author_id = :author_id);
-- name: search_posts
-- Walks the matching rowids from the newest and stops at the limit.
SELECT posts.* FROM words JOIN posts ON posts.id = words.rowid
WHERE words MATCH :match AND words.rowid > :since_id AND words.rowid < :until_id
    AND posts.created_ms >= :start_ms AND posts.created_ms < :end_ms
ORDER BY words.rowid DESC LIMIT :count;
-- name: count_found
-- How many matching posts each step of time holds, by the step's number since 1970; reads every match.
SELECT posts.created_ms / :step_ms AS step, count(*) AS found
FROM words JOIN posts ON posts.id = words.rowid
WHERE words MATCH :match AND words.rowid > :since_id AND words.rowid < :until_id
    AND posts.created_ms >= :start_ms AND posts.created_ms < :end_ms
GROUP BY step;
-- name: has_recent_text
SELECT EXISTS (
    SELECT 1 FROM posts
    WHERE author_id = :author_id AND id >= :since_id AND text = :text AND deleted_ms IS NULL
        AND repost_of IS NULL
);
-- name: add_to_counts
UPDATE posts SET
    retweets = max(0, retweets + :retweets),
    replies = max(0, replies + :replies),
    likes = max(0, likes + :likes),
    quotes = max(0, quotes + :quotes),
    bookmarks = max(0, bookmarks + :bookmarks)
WHERE id = :id;

-- name: drop_posts_by_author
DROP INDEX posts_by_author;
-- name: create_posts_by_author
CREATE INDEX posts_by_author ON posts (author_id, deleted_ms, id);
-- name: list_own_posts
SELECT * FROM posts WHERE author_id = :account_id AND deleted_ms IS NULL;
-- name: delete_world_posts
DELETE FROM posts WHERE author_id <> :account_id;
-- name: delete_world_users
DELETE FROM users WHERE id <> :account_id;
-- name: delete_world_likes
DELETE FROM likes WHERE user_id <> :account_id;
-- name: delete_world_follows
DELETE FROM follows WHERE user_id <> :account_id;
-- name: restore_followers
-- Others' followers are more than the world knows by name; the account's are these.
UPDATE users SET
    followers = (SELECT count(*) FROM follows WHERE followed_id = users.id)
WHERE id = :account_id;
-- name: restore_counts
-- What the account did with the world's posts counts again where a new world brings them back.
UPDATE posts SET
    likes = likes + EXISTS (SELECT 1 FROM likes WHERE user_id = :account_id AND post_id = posts.id),
    bookmarks = bookmarks + EXISTS (SELECT 1 FROM bookmarks WHERE user_id = :account_id AND post_id = posts.id),
    replies = replies + (SELECT count(*) FROM posts AS own WHERE own.reply_to = posts.id
        AND own.author_id = :account_id AND own.deleted_ms IS NULL),
    quotes = quotes + (SELECT count(*) FROM posts AS own WHERE own.quote_of = posts.id
        AND own.author_id = :account_id AND own.deleted_ms IS NULL),
    retweets = retweets + (SELECT count(*) FROM posts AS own WHERE own.repost_of = posts.id
        AND own.author_id = :account_id AND own.deleted_ms IS NULL)
WHERE author_id <> :account_id AND id IN (
    SELECT post_id FROM likes WHERE user_id = :account_id
    UNION SELECT post_id FROM bookmarks WHERE user_id = :account_id
    UNION SELECT reply_to FROM posts WHERE author_id = :account_id
    UNION SELECT quote_of FROM posts WHERE author_id = :account_id
    UNION SELECT repost_of FROM posts WHERE author_id = :account_id
);
