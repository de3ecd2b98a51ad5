"""What X's answers mean: for a write, whether it happened; for a read, which error it is.

A write's answer is sorted so that a caller can act on the outcome alone. Only an answer that leaves
no doubt is definite: everything from which X may have accepted the post is UNKNOWN.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, cast

from workers.platforms.exchange import Answer
from workers.platforms.x_errors import (
    Limit,
    XCreditsDepleted,
    XError,
    XMalformed,
    XRateLimited,
    XRefused,
    XUnauthorized,
    XUnavailable,
)

ID = re.compile(r"[0-9]{1,19}", re.ASCII)
REASON_CAP = 300
WINDOW_S = 900  # X's usual window: the wait when no header names a reset
DAY_S = 86_400  # X's longest window, and the wait at a usage cap, whose end no header names
OK, MULTIPLE_CHOICES, BAD_REQUEST, SERVER_ERROR = 200, 300, 400, 500
DUPLICATE_CODE = 187
NOT_ENROLLED = "client-not-enrolled"
RATE_LIMIT_CODE = 88
WINDOWS = ("x-rate-limit", "x-user-limit-24hour", "x-app-limit-24hour")


class Outcome(StrEnum):
    """What became of a write."""

    POSTED = "posted"
    NOT_SENT = "not_sent"
    """Nothing left the machine: send it again later."""
    RATE_LIMITED = "rate_limited"
    """Not accepted: send it again after `retry_after_s`."""
    DUPLICATE = "duplicate"
    """X knows this text from the account: look for the earlier post."""
    REJECTED = "rejected"
    """Not accepted, and it never will be like this."""
    NOT_ENROLLED = "not_enrolled"
    """Not accepted: the account's access doesn't include such acts, whatever the post."""
    UNKNOWN = "unknown"
    """It may have been accepted: never send it again before the timeline shows that it was not."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What became of one write.

    Attributes:
        outcome: What the caller acts on.
        platform_id: The id of the post that was made or liked; only with POSTED.
        status: The answer's HTTP status; None when none came.
        reason: Why, in X's words where it gave any.
        headers: The answer's headers in lower case; empty when none came.
        retry_after_s: Seconds until the limit frees; only with RATE_LIMITED.
        limit: Which limit; only with RATE_LIMITED.
    """

    outcome: Outcome
    platform_id: str | None = None
    status: int | None = None
    reason: str = ""
    headers: Mapping[str, str]
    retry_after_s: float | None = None
    limit: Limit | None = None


def sort_post(answer: Answer) -> Sent:
    """Say what became of a post, a reply or a quote that X answered."""
    return _sorted(answer, _posted_id(answer), "a post's id")


def sort_like(answer: Answer, post_id: str) -> Sent:
    """Say what became of a like of `post_id` that X answered."""
    return _sorted(answer, post_id if _data(answer).get("liked") is True else None, "data.liked true")


def _sorted(answer: Answer, accepted: str | None, proof: str) -> Sent:
    """Sort an answer; `accepted` is the post's id where a 2xx carries its `proof`."""
    platform_id = None
    retry_after_s = None
    limit = None
    reason = _reason(answer)
    if OK <= answer.status < MULTIPLE_CHOICES:
        platform_id = accepted
        outcome = Outcome.POSTED if platform_id else Outcome.UNKNOWN
        reason = (
            "" if platform_id else f"{answer.status} without {proof}: {answer.fault or 'its body has none'}"
        )
    elif answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        outcome = Outcome.RATE_LIMITED
        limit = _limit(answer)
        retry_after_s = _retry_after_s(answer, limit)
        reason = _limited(limit, reason)
    elif answer.status == HTTPStatus.FORBIDDEN and answer.fault:
        outcome = Outcome.UNKNOWN  # it may have been the word that an earlier attempt was accepted
    elif answer.status == HTTPStatus.FORBIDDEN and _is_duplicate(answer):
        outcome = Outcome.DUPLICATE
    elif answer.status == HTTPStatus.REQUEST_TIMEOUT or not BAD_REQUEST <= answer.status < SERVER_ERROR:
        outcome = Outcome.UNKNOWN
    elif answer.status == HTTPStatus.FORBIDDEN and _is_not_enrolled(answer):
        outcome = Outcome.NOT_ENROLLED
    else:
        outcome = Outcome.REJECTED
        if answer.status == HTTPStatus.PAYMENT_REQUIRED:
            reason = f"credits depleted: {reason}"[:REASON_CAP]
    return Sent(
        outcome=outcome,
        platform_id=platform_id,
        status=answer.status,
        reason=reason,
        headers=answer.headers,
        retry_after_s=retry_after_s,
        limit=limit,
    )


def read_body(answer: Answer) -> dict[str, Any]:
    """A read's JSON object; raises the `XError` that the answer stands for when it has none."""
    if not OK <= answer.status < MULTIPLE_CHOICES:
        raise _refusal(answer)
    if answer.fault:
        raise XMalformed(f"the body is not whole: {answer.fault}", answer.headers)
    body = _object(answer)
    if body is None:
        raise XMalformed("the body is not a JSON object", answer.headers)
    return body


def _refusal(answer: Answer) -> XError:
    status, headers, reason = answer.status, answer.headers, _reason(answer)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        limit = _limit(answer)
        retry_after_s = _retry_after_s(answer, limit)
        return XRateLimited(_limited(limit, reason), headers, retry_after_s=retry_after_s, limit=limit)
    if status == HTTPStatus.PAYMENT_REQUIRED:
        return XCreditsDepleted(status, reason, headers)
    if status == HTTPStatus.UNAUTHORIZED:
        return XUnauthorized(status, reason, headers)
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= SERVER_ERROR:
        return XUnavailable(status, reason, headers)
    if status >= BAD_REQUEST:
        return XRefused(status, reason, headers)
    return XMalformed(f"{reason}, and no redirect is followed", headers)


def _object(answer: Answer) -> dict[str, Any] | None:
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", body) if isinstance(body, dict) else None


def text_of(item: Any, key: str) -> str | None:
    """The text under `key`, where `item` is an object that has one."""
    found = cast("dict[str, Any]", item).get(key) if isinstance(item, dict) else None
    return found if isinstance(found, str) else None


def one_line(text: str) -> str:
    """`text` as a reason is kept and shown: without control characters, cut to a line's length."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:REASON_CAP]).strip()


def _data(answer: Answer) -> dict[str, Any]:
    data = (_object(answer) or {}).get("data")
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def _posted_id(answer: Answer) -> str | None:
    found = text_of(_data(answer), "id")
    return found if found and ID.fullmatch(found) else None


def _errors(body: dict[str, Any]) -> list[dict[str, Any]]:
    errors = body.get("errors")
    if not isinstance(errors, list):
        return []
    return [cast("dict[str, Any]", item) for item in cast("list[Any]", errors) if isinstance(item, dict)]


def _reason(answer: Answer) -> str:
    """X's words about the answer, cut to a line's length and free of control characters."""
    body = _object(answer) or {}
    words = [str(answer.status)]
    for item in (body, *_errors(body)):
        words += [said for key in ("title", "detail", "message") if (said := text_of(item, key)) is not None]
    if len(words) == 1:
        words.append(answer.fault or "X gave no reason")
    return one_line(": ".join(dict.fromkeys(words)))


def _is_duplicate(answer: Answer) -> bool:
    body = _object(answer) or {}
    told = (*_errors(body), body)
    said = " ".join(text_of(item, key) or "" for item in told for key in ("detail", "message"))
    return "duplicate content" in said.lower() or any(item.get("code") == DUPLICATE_CODE for item in told)


def _is_not_enrolled(answer: Answer) -> bool:
    body = _object(answer) or {}
    return any(item.get("reason") == NOT_ENROLLED for item in (body, *_errors(body)))


def _limit(answer: Answer) -> Limit:
    body = _object(answer) or {}
    told = (body, *_errors(body))
    if any((text_of(item, "type") or "").endswith("/problems/usage-capped") for item in told):
        return Limit.USAGE_CAP
    if any(item.get("code") == RATE_LIMIT_CODE for item in told):
        return Limit.CODE_88
    return Limit.WINDOW


def _limited(limit: Limit, reason: str) -> str:
    if limit is Limit.USAGE_CAP:
        return f"usage cap reached, waiting for the window's reset does not help: {reason}"[:REASON_CAP]
    return reason


def _retry_after_s(answer: Answer, limit: Limit) -> float:
    """Seconds to wait by X's own clock: this machine's may be wrong.

    Of the windows that the headers name as used up the last reset counts; without any, the plain
    window's.
    """
    if limit is Limit.USAGE_CAP:
        return DAY_S
    resets = {window: _number(answer.headers, f"{window}-reset") for window in WINDOWS}
    used_up = [
        reset
        for window, reset in resets.items()
        if reset is not None and _number(answer.headers, f"{window}-remaining") == 0
    ]
    reset = max(used_up, default=resets[WINDOWS[0]])
    now_s = _now_s(answer.headers)
    if reset is None or now_s is None:
        return WINDOW_S
    return min(max(reset - now_s, 1), DAY_S)


def _number(headers: Mapping[str, str], name: str) -> int | None:
    value = headers.get(name, "")
    return int(value) if re.fullmatch(r"[0-9]{1,12}", value, re.ASCII) else None


def _now_s(headers: Mapping[str, str]) -> float | None:
    """Seconds since the epoch by the answer's own date."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except Exception:  # noqa: BLE001  whatever the parser makes of a hostile date
        return None
