"""What may go wrong with X; reads raise these, writes answer with a `Sent` instead.

    XError
    ├── XUnreachable             no answer came: try again later
    ├── XUnavailable             X answered 5xx: try again later
    ├── XMalformed               the answer can't be read: try again, then look at the body
    └── XRefused                 X said no: asking again the same way changes nothing, except
        ├── XRateLimited         ask again after `retry_after_s`
        ├── XCreditsDepleted     ask again when the account has credits
        └── XUnauthorized        ask again with other credentials

Only the first three say something about X's health; a refusal says something about the request.
"""

from collections.abc import Mapping
from enum import StrEnum


class Limit(StrEnum):
    """Which of its limits X named with 429."""

    WINDOW = "window"
    """The endpoint's window is used up; it opens again at its reset."""
    CODE_88 = "code_88"
    """The same, said in the older form."""
    USAGE_CAP = "usage_cap"
    """The project's usage cap; the window's reset doesn't help."""


class XError(Exception):
    """X did not give what was asked; `headers` are its answer's, empty when none came."""

    def __init__(self, message: str, *, reason: str, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.reason = reason
        self.headers = headers


class XUnreachable(XError):  # noqa: N818  named for X's state
    """No answer came."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"X gave no answer ({reason}); try again later", reason=reason, headers={})


class XUnavailable(XError):  # noqa: N818  named for X's state
    """X answered, but not as a working service does."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str]) -> None:
        super().__init__(
            f"X is not well ({status}: {reason}); try again later", reason=reason, headers=headers
        )
        self.status = status


class XMalformed(XError):  # noqa: N818  named for X's state
    """The answer came and can't be read."""

    def __init__(self, reason: str, headers: Mapping[str, str]) -> None:
        message = f"X's answer can't be read ({reason}); try again, and look at X_API_URL if it stays so"
        super().__init__(message, reason=reason, headers=headers)


class XRefused(XError):  # noqa: N818  named for X's state
    """X said no, with a definite status."""

    advice = "asking again the same way changes nothing"

    def __init__(self, status: int, reason: str, headers: Mapping[str, str]) -> None:
        super().__init__(f"X refused ({status}: {reason}); {self.advice}", reason=reason, headers=headers)
        self.status = status


class XUnauthorized(XRefused):
    """X does not accept the credentials."""

    advice = "look at X_CONSUMER_KEY and the other credentials"


class XCreditsDepleted(XRefused):
    """The account has no credits left."""

    advice = "buy credits in X's developer console"


class XRateLimited(XRefused):
    """A limit is used up; it frees in `retry_after_s` seconds."""

    advice = "ask again after retry_after_s"

    def __init__(
        self, reason: str, headers: Mapping[str, str], *, retry_after_s: float, limit: Limit
    ) -> None:
        super().__init__(429, reason, headers)
        self.retry_after_s = retry_after_s
        self.limit = limit
