"""What one worker process is given: configuration, its account, and the outside services it needs."""

import json
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from config import Config
from coordination.database import at_place_of
from workers.errors import NeedNotMetError

if TYPE_CHECKING:
    from workers.platforms.x import X, XCredentials

SANDBOX_ACCOUNT = "sandbox"


class Platform(Enum):
    """An outside service that a worker can need."""

    X = "x"


@dataclass(frozen=True)
class Context:
    """Configuration and outside services of one worker process.

    Attributes:
        config: the environment.
        account: the name of the account that the process acts for.
        slot: which replica this is, from 1.
    """

    config: Config
    account: str
    slot: int = 1

    @property
    def state_dir(self) -> Path:
        """The state directory."""
        return self.config.state_dir

    @property
    def dsn(self) -> str:
        """The worker role's connection string.

        Raises:
            NeedNotMetError: there is none yet.
        """
        path = self.state_dir / "dsn" / "worker"
        try:
            return path.read_text("utf-8").strip()
        except OSError as error:
            raise NeedNotMetError(
                f"{path} can't be read ({error.strerror}): run `socialfleet migrate`, or `make up`, first"
            ) from None

    @property
    def direct_dsn(self) -> str | None:
        """The same login around the pooler that `dsn` leads through; None where none is named."""
        direct = self.config.socialfleet_direct_database_url
        return at_place_of(self.dsn, direct.get_secret_value()) if direct else None

    @cached_property
    def x_credentials(self) -> "XCredentials":
        """The account's credentials: from the environment, else the sandbox's own.

        Raises:
            NeedNotMetError: there are none.
        """
        from workers.platforms.x import XCredentials  # noqa: PLC0415  not every worker needs X

        values = {
            name: getattr(self.config, name)
            for name in (
                "x_consumer_key",
                "x_consumer_secret",
                "x_access_token",
                "x_access_token_secret",
                "x_bearer_token",
            )
        }
        if self.config.has_credentials:
            return XCredentials.model_validate(values)
        path = self.state_dir / "sandbox" / "credentials.json"
        if self.config.runs_sandbox:
            try:
                return XCredentials.from_file(path)
            except (OSError, ValueError):
                raise NeedNotMetError(f"{path} can't be read: is the X sandbox running?") from None
        raise NeedNotMetError(
            f"X_API_URL is {self.config.x_url!r} and there are no credentials for it: give X_CONSUMER_KEY, "
            "X_CONSUMER_SECRET, X_ACCESS_TOKEN and X_ACCESS_TOKEN_SECRET"
        )

    @cached_property
    def x(self) -> "X":
        """X, or the sandbox that speaks its protocol."""
        from workers.platforms.x import X  # noqa: PLC0415  not every worker needs X

        return X(self.config.x_url, self.x_credentials)

    def secrets(self) -> list[str]:
        """Every secret value that this process knows, for the logs to hide."""
        known = list(self.config.secrets)
        try:
            own = json.loads((self.state_dir / "sandbox" / "credentials.json").read_text("utf-8"))
            known += [str(own[name]) for name in own if str(name).startswith("x_")]
        except (OSError, ValueError, TypeError):
            pass  # no sandbox here: nothing of it to hide
        given = (self.config.database_url, self.config.socialfleet_direct_database_url)
        urls = [url.get_secret_value() for url in given if url]
        with suppress(NeedNotMetError):
            urls.append(self.dsn)
        for url in urls:
            password = urlsplit(url).password or ""
            known += [url, password, unquote(password)]
        return known


def default_account(config: Config) -> str:
    """The account of the fleet on this state directory; before one ran, what the credentials mean."""
    try:
        kept = (config.state_dir / "account").read_text("utf-8").strip()
    except OSError:
        kept = ""
    return kept or (SANDBOX_ACCOUNT if config.runs_sandbox else "default")
