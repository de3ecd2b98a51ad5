"""What proves to X that a request is an account's own."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, SecretStr


class XCredentials(BaseModel):
    """One account's OAuth 1.0a values; none of them shows in a repr, a log or an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        populate_by_name=True,
        alias_generator=lambda name: f"x_{name}",
    )

    consumer_key: SecretStr
    consumer_secret: SecretStr
    access_token: SecretStr
    access_token_secret: SecretStr
    bearer_token: SecretStr | None = None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a JSON object with `x_consumer_key` and so on; raises OSError, ValidationError."""
        return cls.model_validate_json(path.read_bytes())

    def redact(self, body: bytes) -> bytes:
        """`body` without any of the secrets, should a server have echoed one."""
        for name in type(self).model_fields:
            secret: SecretStr | None = getattr(self, name)
            if secret and secret.get_secret_value():
                body = body.replace(secret.get_secret_value().encode(), b"***")
        return body
