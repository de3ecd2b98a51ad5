"""tweepy's client on our wire: it builds and signs each request, `exchange` carries it once.

tweepy fixes the host, follows redirects, waits for limits and reads error bodies by itself; so its
one method that does all this is replaced.
"""

import json as jsons
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from ssl import SSLContext
from typing import Any

import requests
import tweepy

from workers.platforms.connection import proxy_for
from workers.platforms.exchange import Answer, Request, exchange
from workers.platforms.x_credentials import XCredentials

REDIRECT = 300  # from here on a body is words about the request, which may echo it
USER_TIMEOUT_S = 10.0  # after this the kernel stops delivering a dead sender's bytes
UNTIL_SETTLED = 8  # calls after which CPython has chosen its fast instructions
_NOBODYS = jsons.dumps(dict.fromkeys([f"x_{name}" for name in XCredentials.model_fields], "nobody's"))

for _library in ("oauthlib", "requests_oauthlib", "tweepy"):
    logging.getLogger(_library).setLevel(logging.INFO)  # below it they log keys and signatures


def client_for(
    base_url: str,
    credentials: XCredentials,
    *,
    deadline_s: float,
    tls: SSLContext | None,
    before_write: Callable[[], bool] | None = None,
) -> Any:
    """Make tweepy's client for one call; its methods give the `Answer` and raise `ExchangeError`.

    tweepy has no types, so neither has what is returned here.
    """

    def carry(request: requests.PreparedRequest, body: bytes) -> Answer:
        method, url = request.method or "", request.url or ""
        answer = exchange(
            Request(method=method, url=url, headers=_latin(request.headers), body=body),
            deadline_s=deadline_s,
            tls=tls,
            # How long a proxy keeps bytes before it delivers them is nobody's promise.
            proxy=proxy_for(url) if method == "GET" else None,
            before_write=before_write,
            user_timeout_s=USER_TIMEOUT_S,
        )
        return answer if answer.status < REDIRECT else replace(answer, body=credentials.redact(answer.body))

    return _Client(base_url, _signer(credentials), carry)


def rehearse(base_url: str) -> None:
    """Build and sign requests that nobody carries anywhere, as often as Python needs to settle how."""
    nobody = XCredentials.model_validate_json(_NOBODYS)
    answer = Answer(status=200, headers={}, body=b"")
    client: Any = _Client(base_url, _signer(nobody), lambda _request, _body: answer)
    for _ in range(UNTIL_SETTLED):
        client.get_me()


def _signer(credentials: XCredentials) -> Any:
    oauth: Any = tweepy.OAuth1UserHandler(
        credentials.consumer_key.get_secret_value(),
        credentials.consumer_secret.get_secret_value(),
        credentials.access_token.get_secret_value(),
        credentials.access_token_secret.get_secret_value(),
    )
    return oauth.apply_auth()


class _Client(tweepy.Client):
    def __init__(
        self, base_url: str, sign: Any, carry: Callable[[requests.PreparedRequest, bytes], Answer]
    ) -> None:
        as_it_is: Any = requests.Response
        super().__init__(return_type=as_it_is)  # pyright: ignore[reportUnknownMemberType]
        self._base_url = base_url
        self._sign = sign
        self._carry = carry

    def like_as(self, user_id: str, post_id: str) -> Answer:
        """Like a post as `user_id`; tweepy's own guesses the user from the form of the access token."""
        return self.request("POST", f"/2/users/{user_id}/likes", json={"tweet_id": post_id})

    def request(
        self,
        method: str,
        route: str,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        user_auth: bool = True,
    ) -> Answer:
        """Send one request as the account and exchange it for its answer."""
        del user_auth
        headers = {"User-Agent": self.user_agent, "Accept": "application/json"}
        body = b""
        if json is not None:
            headers["Content-Type"] = "application/json"
            body = jsons.dumps(json, ensure_ascii=False).encode()
        url = self._base_url + route
        signed = requests.Request(method, url, params=params, headers=headers, auth=self._sign).prepare()
        return self._carry(signed, body)


def _latin(headers: Mapping[str, str | bytes]) -> dict[str, str]:
    """The signer leaves some values as bytes; the length is the exchange's to say."""
    return {
        name: value.decode("latin-1") if isinstance(value, bytes) else value
        for name, value in headers.items()
        if name.lower() != "content-length"
    }
