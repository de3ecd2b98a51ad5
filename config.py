"""Config: what the environment (or `.env`) says, read once.

Settings that change while the fleet runs live in the database (`coordination.settings`); this is
what a process must know before it can reach the database. Everything has a default: without any
variable the fleet runs on its own PostgreSQL against the sandbox.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    HttpUrl,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

X_API_URL = "https://api.x.com"
CONSOLE_PORT = 8780
SANDBOX_PORT = 8790
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
X_CREDENTIALS = ("x_consumer_key", "x_consumer_secret", "x_access_token", "x_access_token_secret")

Port = Annotated[int, Field(ge=1, le=65535)]


class ConfigError(Exception):
    """The environment holds values that can't be used; the text has one line a fault."""


class Config(BaseSettings):
    """One process's configuration; every field is an environment variable of the same name."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = None
    socialfleet_state_dir: Path = Path(".socialfleet")
    socialfleet_pg_bin: Path | None = None
    socialfleet_account: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    socialfleet_console_port: Port = CONSOLE_PORT
    socialfleet_sandbox_port: Port = SANDBOX_PORT
    x_api_url: HttpUrl | None = None
    x_consumer_key: SecretStr | None = None
    x_consumer_secret: SecretStr | None = None
    x_access_token: SecretStr | None = None
    x_access_token_secret: SecretStr | None = None
    x_bearer_token: SecretStr | None = None
    openai_base_url: HttpUrl | None = None
    openai_api_key: SecretStr | None = None
    openai_model: str = "gpt-4o-mini"
    debug: bool = False

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value and urlsplit(value.get_secret_value()).scheme not in {"postgresql", "postgres"}:
            raise ValueError("must be a URL that starts with postgresql://")
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
    return Config()


def _faults_between_fields(values: Mapping[str, Any]) -> list[str]:
    faults: list[str] = []
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
