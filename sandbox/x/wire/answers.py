"""Answers: X's problem documents, and the error tree whose members become them.

Problem                   any refusal: a status and a JSON body
|- InvalidRequest 400     a parameter or a body field; one entry a fault
|- Unauthorized 401       no credentials, or wrong ones
|- Forbidden 403          understood, not allowed
|- NotFound 404           no such path
`- TooManyRequests 429    the window is used up
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PROBLEMS = "https://api.twitter.com/2/problems"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong with one parameter; a fault of the body names no parameter."""

    message: str
    parameter: str | None = None
    value: str | None = None


class Problem(Exception):  # noqa: N818 - the RFC's and X's own word
    """A refusal in X's shape."""

    def __init__(self, status: int, title: str, detail: str, *, type_: str = "about:blank") -> None:
        super().__init__(detail)
        self.status = status
        self.body: dict[str, Any] = {"title": title, "detail": detail, "type": type_, "status": status}


class InvalidRequest(Problem):
    """One or more parameters or body fields can't be used."""

    def __init__(
        self, *faults: Fault, detail: str = "One or more parameters to your request was invalid."
    ) -> None:
        super().__init__(400, "Invalid Request", detail, type_=f"{PROBLEMS}/invalid-request")
        del self.body["status"]  # X leaves it out of this one
        self.body = {
            "errors": [
                {
                    "parameters": {} if fault.parameter is None else {fault.parameter: [fault.value]},
                    "message": fault.message,
                }
                for fault in faults
            ],
            **self.body,
        }


class Unauthorized(Problem):
    """The credentials are missing or wrong; X never says which part, so `reason` stays inside."""

    def __init__(self, reason: str) -> None:
        super().__init__(401, "Unauthorized", "Unauthorized")
        self.reason = reason


class Forbidden(Problem):
    """The request was understood and isn't allowed."""

    def __init__(self, detail: str) -> None:
        super().__init__(403, "Forbidden", detail)


class UnsupportedAuthentication(Problem):
    """The endpoint doesn't take credentials of this kind."""

    def __init__(
        self,
        given: str = "OAuth 2.0 Application-Only",
        supported: str = "OAuth 1.0a User Context, OAuth 2.0 User Context",
    ) -> None:
        super().__init__(
            403,
            "Unsupported Authentication",
            f"Authenticating with {given} is forbidden for this endpoint.  "
            f"Supported authentication types are [{supported}].",
            type_=f"{PROBLEMS}/unsupported-authentication",
        )


class NotFound(Problem):
    """No endpoint has this path."""

    def __init__(self) -> None:
        super().__init__(404, "Not Found", "Not Found")


class TooManyRequests(Problem):
    """The caller's window on this endpoint is used up until `x-rate-limit-reset`."""

    def __init__(self) -> None:
        super().__init__(429, "Too Many Requests", "Too Many Requests")


def not_found(resource: str, parameter: str, value: str) -> dict[str, Any]:
    """The entry of a partial answer's `errors` for a thing that isn't there."""
    what = f"{resource} with {parameter}"
    return {
        "value": value,
        "detail": f"Could not find {what}: [{value}].",
        "title": "Not Found Error",
        "resource_type": resource,
        "parameter": parameter,
        "resource_id": value,
        "type": f"{PROBLEMS}/resource-not-found",
    }


def not_authorized(field: str, post_id: str) -> dict[str, Any]:
    """The entry of a partial answer's `errors` for a post's field that the caller may not see."""
    return {
        "value": post_id,
        "detail": f"Sorry, you are not authorized to access '{field}' on the Tweet with id : [{post_id}].",
        "title": "Field Authorization Error",
        "section": "data",
        "field": field,
        "resource_type": "tweet",
        "parameter": "id",
        "resource_id": post_id,
        "type": f"{PROBLEMS}/not-authorized-for-field",
    }


def not_one_of(parameter: str, value: str, allowed: Sequence[str]) -> Fault:
    """The fault of a value outside a list."""
    return Fault(
        parameter=parameter,
        value=value,
        message=f"The `{parameter}` query parameter value [{value}] is not one of [{','.join(allowed)}]",
    )
