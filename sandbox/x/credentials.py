"""Credentials: the account's keys, made once a state directory and read by whoever drives the account."""

import json
import os
import secrets
import string
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sandbox.x import snowflakes

FILE = "credentials.json"
_ALPHABET = string.ascii_letters + string.digits


class CredentialsError(Exception):
    """credentials.json can't be used; the text says what to do."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The account and its keys, as strings, in the file's own order."""

    x_consumer_key: str
    x_consumer_secret: str
    x_access_token: str
    x_access_token_secret: str
    x_bearer_token: str
    user_id: str
    username: str
    x_client_id: str = ""
    x_client_secret: str = ""


def load(directory: Path) -> Credentials:
    """The directory's credentials, made at the first call (mode 0600); raises CredentialsError, OSError."""
    path = directory / FILE
    if not path.exists():
        _write(path, _make())
    try:
        known = Credentials(**json.loads(path.read_text(encoding="utf-8")))
        if not known.x_client_id:  # an earlier release had none
            known = replace(known, x_client_id=_random(34), x_client_secret=_random(50))
            _write(path, known)
        return known  # noqa: TRY300 - short enough
    except (ValueError, TypeError) as error:
        raise CredentialsError(
            f"{path} is damaged: put its copy back, or start with an empty --state directory"
        ) from error


def _make() -> Credentials:
    user_id = str(snowflakes.from_time(int(time.time() * 1000)))
    return Credentials(
        x_consumer_key=_random(25),
        x_consumer_secret=_random(50),
        x_access_token=f"{user_id}-{_random(30)}",
        x_access_token_secret=_random(45),
        x_bearer_token=_random(100),
        user_id=user_id,
        username="fleet",
        x_client_id=_random(34),
        x_client_secret=_random(50),
    )


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _write(path: Path, credentials: Credentials) -> None:
    """A reader sees the whole file or none."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(credentials), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
