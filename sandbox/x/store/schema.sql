-- name: create_tables
-- Post ids are SQLite's rowids, so that the full-text index and the posts share one order: newest first.
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY,
    username TEXT NOT NULL UNIQUE COLLATE NOCASE,
    name TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    location TEXT NOT NULL DEFAULT '',
    url TEXT NOT NULL DEFAULT '',
    followers INTEGER NOT NULL DEFAULT 0,
    following INTEGER NOT NULL DEFAULT 0,
    verified INTEGER NOT NULL DEFAULT 0,
    protected INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS posts (
    id INTEGER PRIMARY KEY,
    author_id INTEGER NOT NULL,
    text TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    lang TEXT NOT NULL,
    retweets INTEGER NOT NULL,
    replies INTEGER NOT NULL,
    likes INTEGER NOT NULL,
    quotes INTEGER NOT NULL,
    bookmarks INTEGER NOT NULL,
    impressions INTEGER NOT NULL,
    reply_to INTEGER,
    quote_of INTEGER,
    repost_of INTEGER,
    conversation_id INTEGER,
    reply_settings TEXT NOT NULL DEFAULT 'everyone',
    made_with_ai INTEGER NOT NULL DEFAULT 0,
    paid_partnership INTEGER NOT NULL DEFAULT 0,
    hidden INTEGER NOT NULL DEFAULT 0,
    deleted_ms INTEGER
);
-- An author's living posts are counted in it without a look at the posts.
CREATE INDEX IF NOT EXISTS posts_by_author ON posts (author_id, deleted_ms, id);
CREATE INDEX IF NOT EXISTS replies_by_post ON posts (reply_to, id) WHERE reply_to IS NOT NULL;
CREATE INDEX IF NOT EXISTS quotes_by_post ON posts (quote_of, id) WHERE quote_of IS NOT NULL;
CREATE INDEX IF NOT EXISTS reposts_by_post ON posts (repost_of, id) WHERE repost_of IS NOT NULL;
-- marks: one word each for author, language, mentions, tags, kind (search.py names them). Without content of
-- its own: the texts stand in posts, and a row is taken out by giving its words once more. Nor has it the
-- columns' sizes: nothing is ranked by relevance.
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (
    body, marks, content = '', columnsize = 0, tokenize = "unicode61 remove_diacritics 0 tokenchars '_'"
);
CREATE TABLE IF NOT EXISTS likes (
    user_id INTEGER NOT NULL, post_id INTEGER NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (user_id, post_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS likes_by_post ON likes (post_id, at_ms);
CREATE TABLE IF NOT EXISTS bookmarks (
    user_id INTEGER NOT NULL, post_id INTEGER NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (user_id, post_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS follows (
    user_id INTEGER NOT NULL,
    followed_id INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (user_id, followed_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS follows_by_followed ON follows (followed_id, user_id);
CREATE TABLE IF NOT EXISTS mutes (
    user_id INTEGER NOT NULL, muted_id INTEGER NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (user_id, muted_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS media (
    id INTEGER PRIMARY KEY,
    media_type TEXT NOT NULL,
    category TEXT,
    total_bytes INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    finalized_ms INTEGER,
    alt_text TEXT
);
CREATE TABLE IF NOT EXISTS segments (
    media_id INTEGER NOT NULL, position INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (media_id, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attachments (
    post_id INTEGER NOT NULL, position INTEGER NOT NULL, media_id INTEGER NOT NULL, PRIMARY KEY (post_id, position)
) WITHOUT ROWID;
-- Tokens and codes stand as SHA-256 digests; `family` ties the tokens of one authorization together.
CREATE TABLE IF NOT EXISTS codes (
    digest TEXT PRIMARY KEY,
    client_id TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    challenge TEXT NOT NULL,
    scopes TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    family TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (
    digest TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    family TEXT NOT NULL,
    scopes TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    used INTEGER NOT NULL DEFAULT 0,
    revoked INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tokens_by_family ON tokens (family);
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
CREATE INDEX IF NOT EXISTS refused_requests ON requests (account, endpoint) WHERE status = 429;
-- What each limit's windows took, request by request (counts.py).
CREATE TABLE IF NOT EXISTS meters (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    window_s INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    UNIQUE (account, endpoint, window_s)
);
CREATE TABLE IF NOT EXISTS takes (
    seq INTEGER PRIMARY KEY, meter_id INTEGER NOT NULL, at_ms INTEGER NOT NULL, started_s INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS windows (
    caller TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    window_s INTEGER NOT NULL,
    started_s INTEGER NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (caller, endpoint, window_s)
) WITHOUT ROWID;

-- name: upgrade_to_2
-- From the release whose posts were plain. The index of words is made anew, and the world is read again.
ALTER TABLE users ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN location TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN url TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN followers INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN following INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN verified INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN protected INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posts ADD COLUMN reply_to INTEGER;
ALTER TABLE posts ADD COLUMN quote_of INTEGER;
ALTER TABLE posts ADD COLUMN repost_of INTEGER;
ALTER TABLE posts ADD COLUMN conversation_id INTEGER;
ALTER TABLE posts ADD COLUMN reply_settings TEXT NOT NULL DEFAULT 'everyone';
ALTER TABLE posts ADD COLUMN made_with_ai INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posts ADD COLUMN paid_partnership INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posts ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posts ADD COLUMN deleted_ms INTEGER;
DROP TABLE words;
DROP INDEX posts_by_author;
DELETE FROM meta WHERE key = 'world';

-- name: get_meta
SELECT value FROM meta WHERE key = :key;
-- name: set_meta
INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = excluded.value;
