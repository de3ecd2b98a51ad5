-- name: create_tables
-- Post ids are SQLite's rowids, so that the full-text index and the posts share one order: newest first.
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY,
    username TEXT NOT NULL UNIQUE COLLATE NOCASE,
    name TEXT NOT NULL,
    created_ms INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS posts (
    id INTEGER PRIMARY KEY,
    author_id INTEGER NOT NULL REFERENCES users,
    text TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    lang TEXT NOT NULL,
    retweets INTEGER NOT NULL,
    replies INTEGER NOT NULL,
    likes INTEGER NOT NULL,
    quotes INTEGER NOT NULL,
    bookmarks INTEGER NOT NULL,
    impressions INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS posts_by_author ON posts (author_id, id);
-- marks: one word each for author, language, mentions, tags, retweet (search.py names them).
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
    body, marks, tokenize = "unicode61 remove_diacritics 0 tokenchars '_'"
);
CREATE TABLE IF NOT EXISTS writes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    account TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT,
    id TEXT NOT NULL,
    text TEXT
);
CREATE TABLE IF NOT EXISTS requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    account TEXT,
    endpoint TEXT,
    status INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS windows (
    caller TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    window_s INTEGER NOT NULL,
    started_s INTEGER NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (caller, endpoint, window_s)
) WITHOUT ROWID;

-- name: get_meta
SELECT value FROM meta WHERE key = :key;
-- name: set_meta
INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: add_user
INSERT INTO users (id, username, name, created_ms) VALUES (:id, :username, :name, :created_ms)
ON CONFLICT (id) DO NOTHING;
-- name: get_user
SELECT id, username, name, created_ms FROM users WHERE id = :id;
-- name: find_user
SELECT id, username, name, created_ms FROM users WHERE username = :username;
-- name: count_posts_of
SELECT count(*) FROM posts WHERE author_id = :author_id;

-- name: add_post
INSERT INTO posts (
    id, author_id, text, created_ms, lang, retweets, replies, likes, quotes, bookmarks, impressions
) VALUES (
    :id, :author_id, :text, :created_ms, :lang, :retweets, :replies, :likes, :quotes, :bookmarks, :impressions
);
-- name: add_words
INSERT INTO words (rowid, body, marks) VALUES (:id, :body, :marks);
-- name: get_post
SELECT * FROM posts WHERE id = :id;
-- name: count_posts
SELECT count(*) FROM posts;
-- name: get_last_id
SELECT max(id) FROM posts WHERE author_id = :author_id;
-- name: list_posts_of
-- Reads along posts_by_author: costs as many rows as it returns.
SELECT * FROM posts
WHERE author_id = :author_id AND id > :since_id AND id < :until_id
    AND created_ms >= :start_ms AND created_ms < :end_ms
ORDER BY id DESC LIMIT :count;
-- name: search_posts
-- Walks the matching rowids from the newest and stops at the limit.
SELECT posts.* FROM words JOIN posts ON posts.id = words.rowid
WHERE words MATCH :match AND words.rowid > :since_id AND words.rowid < :until_id
    AND posts.created_ms >= :start_ms AND posts.created_ms < :end_ms
ORDER BY words.rowid DESC LIMIT :count;
-- name: has_recent_text
SELECT EXISTS (
    SELECT 1 FROM posts WHERE author_id = :author_id AND id >= :since_id AND text = :text
);

-- name: delete_world_words
DELETE FROM words WHERE rowid IN (SELECT id FROM posts WHERE author_id <> :account_id);
-- name: delete_world_posts
DELETE FROM posts WHERE author_id <> :account_id;
-- name: delete_world_users
DELETE FROM users WHERE id <> :account_id;

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
