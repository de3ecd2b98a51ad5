-- name: add_code
INSERT INTO codes (digest, client_id, redirect_uri, challenge, scopes, expires_ms)
VALUES (:digest, :client_id, :redirect_uri, :challenge, :scopes, :expires_ms);
-- name: get_code
SELECT * FROM codes WHERE digest = :digest;
-- name: set_code_family
UPDATE codes SET family = :family WHERE digest = :digest;
-- name: add_token
INSERT INTO tokens (digest, kind, family, scopes, expires_ms)
VALUES (:digest, :kind, :family, :scopes, :expires_ms);
-- name: get_token
SELECT * FROM tokens WHERE digest = :digest AND kind = :kind;
-- name: set_token_used
UPDATE tokens SET used = 1 WHERE digest = :digest;
-- name: revoke_family
UPDATE tokens SET revoked = 1 WHERE family = :family;
