"""Config: what the environment (or `.env`) says, read once.

Settings that change while the fleet runs live in the database (`coordination.settings`); this is
what a process must know before it can reach the database. Everything has a default: without any
variable the fleet runs on its own PostgreSQL against the sandbox.
"""

import os
import platform
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    HttpUrl,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

X_API_URL = "https://api.x.com"
CONSOLE_PORT = 8780
SANDBOX_PORT = 8790
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
X_CREDENTIALS = ("x_consumer_key", "x_consumer_secret", "x_access_token", "x_access_token_secret")
OUR_PREFIX = "SOCIALFLEET_"
PREFIXES = (OUR_PREFIX, "X_", "OPENAI_")
OF_THE_KEEPER = frozenset(
    f"SOCIALFLEET_{name}" for name in ("KEEPER", "LOG", "PROGRESS_FD", "STACKS_FD", "WAKE_FD")
)
"""What the keeper tells the processes that it gives birth to."""
RESERVED = frozenset({"SOCIALFLEET_CRASH_AT"}) | OF_THE_KEEPER
"""Names that are no field, and that nobody should be refused for: one for tests of crashes."""
ACCOUNT = re.compile(r"[a-z][a-z0-9_-]{0,62}")
DATABASE_URL = re.compile(
    r"postgres(?:ql)?://(?:(?P<login>[^@/]*)@)?(?P<hosts>[^/?]*)(?P<database>/[^?]*)?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
"""As libpq reads it: the first `@` ends the login, unless a `/` comes before."""
HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]*\]|[^:\[\]]*)(?::(?P<port>[^:]*))?")
MAX_PORT = 65535
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
LABEL = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9._/-]{0,62})=(?P<value>[A-Za-z0-9._/-]{0,63})")

Port = Annotated[int, Field(ge=1, le=MAX_PORT)]


class ConfigError(Exception):
    """The environment holds values that can't be used; the text has one line a fault."""


class Place(BaseSettings):
    """Where the state directory is."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    socialfleet_state_dir: Path = Path(".socialfleet")


class Config(Place):
    """One process's configuration; every field is an environment variable of the same name."""

    database_url: SecretStr | None = None
    socialfleet_direct_database_url: SecretStr | None = None
    socialfleet_pg_bin: Path | None = None
    socialfleet_console_port: Port = CONSOLE_PORT
    socialfleet_sandbox_port: Port = SANDBOX_PORT
    socialfleet_account: str | None = None
    socialfleet_host: str | None = None
    socialfleet_host_labels: str = ""
    socialfleet_spawn: bool = False
    socialfleet_log_to_stdout: bool = False
    x_api_url: HttpUrl | None = None
    x_consumer_key: SecretStr | None = None
    x_consumer_secret: SecretStr | None = None
    x_access_token: SecretStr | None = None
    x_access_token_secret: SecretStr | None = None
    x_bearer_token: SecretStr | None = None
    x_tier: Literal["free", "pay_per_use", "enterprise"] = "pay_per_use"
    openai_base_url: HttpUrl | None = None
    openai_api_key: SecretStr | None = None
    openai_model: str = "gpt-4o-mini"
    debug: bool = False

    @field_validator("database_url", "socialfleet_direct_database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value and (fault := _fault_of_url(value.get_secret_value().strip())):
            raise ValueError(fault)
        return value

    @field_validator("socialfleet_account")
    @classmethod
    def _is_account(cls, value: str | None) -> str | None:
        if value is not None and not ACCOUNT.fullmatch(value):
            raise ValueError("must be a lower-case name of 1 to 63 letters, digits, _ or -")
        return value

    @field_validator("socialfleet_host")
    @classmethod
    def _is_host_name(cls, value: str | None) -> str | None:
        if value is not None and not HOST_NAME.fullmatch(value):
            raise ValueError(
                "must be 1 to 253 letters, digits, dots, _ or -, beginning with a letter or digit"
            )
        return value

    @field_validator("socialfleet_host_labels")
    @classmethod
    def _are_labels(cls, value: str) -> str:
        labels = [label.strip() for label in value.split(",") if label.strip()]
        if faulty := next((label for label in labels if not LABEL.fullmatch(label)), None):
            raise ValueError(
                f"holds {faulty!r}: labels are name=value, joined by commas, such as zone=a,gpu=yes"
            )
        if len({label.partition("=")[0] for label in labels}) < len(labels):
            raise ValueError("names a label twice")
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _all_faults_at_once(cls, values: dict[str, Any], handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Check each field and all together; a person should not meet the faults one by one."""
        faults = _faults_between_fields(values)
        try:
            config = handler(values)
        except ValidationError as error:
            faults = [_fault(item) for item in error.errors()] + faults
        else:
            if not faults:
                return config
        raise ConfigError("\n".join(faults)) from None

    @property
    def state_dir(self) -> Path:
        """The state directory as an absolute path."""
        return self.socialfleet_state_dir.expanduser().absolute()

    @property
    def host(self) -> str:
        """This host's name in the fleet: as given, else the system's."""
        return self.socialfleet_host or platform.node() or "localhost"

    @property
    def host_labels(self) -> dict[str, str]:
        """What workers can be placed by: each label's value by its name."""
        labels = (label.strip().partition("=") for label in self.socialfleet_host_labels.split(","))
        return {name: value for name, equals, value in labels if equals}

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """Every secret value that it holds, for logs to hide."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))

    @property
    def has_credentials(self) -> bool:
        """Whether all four OAuth 1.0a values of an X account are given."""
        return all(getattr(self, name) is not None for name in X_CREDENTIALS)

    @property
    def runs_sandbox(self) -> bool:
        """Whether this fleet starts its own X sandbox: no address and no credentials are given."""
        return self.x_api_url is None and not self.has_credentials

    @property
    def x_url(self) -> str:
        """X's address without a trailing slash: as given, else X with credentials, else the sandbox."""
        if self.x_api_url:
            return str(self.x_api_url).rstrip("/")
        return X_API_URL if self.has_credentials else f"http://127.0.0.1:{self.socialfleet_sandbox_port}"


def load() -> Config:
    """Read the environment and `.env`; raise `ConfigError` with every fault at once, a line each."""
    faults = list(_unknown_names())
    try:
        config = Config()
    except ConfigError as error:
        faults = [*str(error).split("\n"), *faults]
    else:
        if not faults:
            return config
    raise ConfigError("\n".join(faults))


def load_place() -> Config:
    """Read where the state directory is and nothing else: for what must work whatever the rest says."""
    return Config.model_construct(socialfleet_state_dir=Place().socialfleet_state_dir)


def _unknown_names() -> Iterator[str]:
    """A sentence a mistyped name; names with the prefixes of others are suspicious in `.env` only."""
    known = {name.upper() for name in Config.model_fields}
    given = {
        name.upper() for name, value in os.environ.items() if value and name.upper().startswith(OUR_PREFIX)
    }
    written = {name.upper() for name in DotEnvSettingsSource(Config).env_vars}
    given |= {name for name in written if name.startswith(PREFIXES)}
    for name in sorted(given - known - RESERVED):
        near = get_close_matches(name, sorted(known), 1)
        hint = f"did you mean {near[0]}?" if near else "see .env.example for those there are"
        yield f"{name}: there is no such variable; {hint}"


def _fault_of_url(url: str) -> str | None:  # noqa: PLR0911  one a fault
    """Why libpq would misread the URL, or None; shows nothing of it, for any piece may be the password's."""
    match = DATABASE_URL.fullmatch(url)
    if match is None:
        return "must be a URL that starts with postgresql://"
    if re.search(r"\s", url):
        return "holds white space: write a space as %20"
    login, hosts = match["login"] or "", match["hosts"]
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", url):
        return "holds a % that begins no character: write % itself as %25"
    if "?" in login or "@" in hosts + (match["database"] or ""):
        return "has a password with @, / or ? in it: write these as %40, %2F and %3F"
    places = [HOST.fullmatch(host) for host in hosts.split(",")]
    if not all(place and _is_port(place["port"] or "") for place in places):
        return (
            "needs host:port after the login, with a port from 1 to 65535; "
            "if the password holds @, / or ?, write these as %40, %2F and %3F"
        )
    if not all("=" in parameter for parameter in filter(None, (match["query"] or "").split("&"))):
        return "needs name=value, joined by &, after the ?; a ? in the password is written as %3F"
    return None


def _is_port(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= MAX_PORT)


def _faults_between_fields(values: Mapping[str, Any]) -> list[str]:
    faults: list[str] = []
    if values.get("socialfleet_direct_database_url") and not values.get("database_url"):
        faults.append("SOCIALFLEET_DIRECT_DATABASE_URL: needs DATABASE_URL, the way through the pooler")
    missing = [name.upper() for name in X_CREDENTIALS if not values.get(name)]
    if 0 < len(missing) < len(X_CREDENTIALS):
        faults.append(f"{', '.join(missing)}: needed as well: X's four OAuth 1.0a values come together")
    console = values.get("socialfleet_console_port", CONSOLE_PORT)
    if str(console) == str(values.get("socialfleet_sandbox_port", SANDBOX_PORT)):
        faults.append(
            f"SOCIALFLEET_CONSOLE_PORT and SOCIALFLEET_SANDBOX_PORT are both {console}: they must differ"
        )
    return faults


def _fault(item: Mapping[str, Any]) -> str:
    """Name the variable, its value (unless secret) and what is allowed."""
    name = str(item["loc"][0]).upper()
    message = str(item["msg"]).removeprefix("Value error, ")
    field = Config.model_fields.get(name.lower())
    secret = field is None or "Secret" in str(field.annotation)
    value = "" if secret else f" is {str(item['input'])!r}"
    return f"{name}{value}: {message}"
