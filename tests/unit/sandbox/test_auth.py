from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oauthlib.oauth1 import Client

from sandbox.x import credentials
from sandbox.x.auth import Caller, Gate
from sandbox.x.credentials import Credentials, CredentialsError
from sandbox.x.wire.answers import Unauthorized

NOW_S = 1_800_000_000
KEYS = Credentials(
    x_consumer_key="ck",
    x_consumer_secret="cs",
    x_access_token="12-at",
    x_access_token_secret="ats",
    x_bearer_token="bearer",
    user_id="12",
    username="fleet",
)


def signed(
    keys: Credentials = KEYS,
    *,
    method: str = "GET",
    url: str = "https://api.twitter.com/2/tweets?ids=1%2C2",
    at_s: int = NOW_S,
    nonce: str = "n1",
) -> str:
    client: Any = Client(
        keys.x_consumer_key,
        keys.x_consumer_secret,
        keys.x_access_token,
        keys.x_access_token_secret,
        timestamp=str(at_s),
        nonce=nonce,
    )
    headers: dict[str, str] = client.sign(url, method)[1]
    return headers["Authorization"]


def check(
    authorization: str | None,
    *,
    gate: Gate | None = None,
    method: str = "GET",
    target: str = "/2/tweets?ids=1%2C2",
    now_s: int = NOW_S,
) -> Caller:
    gate = gate or Gate(KEYS, 8790)
    return gate.check(method=method, target=target, authorization=authorization, now_s=now_s)


@pytest.mark.parametrize(
    "origin",
    ["https://api.twitter.com", "https://api.x.com", "http://127.0.0.1:8790", "http://localhost:8790"],
)
def test_a_request_signed_for_x_or_for_the_sandbox_is_the_accounts(origin: str) -> None:
    authorization = signed(url=f"{origin}/2/tweets?ids=1%2C2")
    assert check(authorization) == Caller(name="fleet", context="user", user_id=12)


def test_a_bearer_token_is_the_apps() -> None:
    assert check("Bearer bearer") == Caller(name="app", context="app")


@pytest.mark.parametrize(
    "header", [None, "", "Basic abc", "Bearer", "Bearer other", "OAuth", "OAuth x", "OAuth a=b"]
)
def test_other_credentials_are_refused(header: str | None) -> None:
    with pytest.raises(Unauthorized):
        check(header)


@pytest.mark.parametrize(
    "keys",
    [
        replace(KEYS, x_consumer_key="other"),
        replace(KEYS, x_consumer_secret="other"),
        replace(KEYS, x_access_token="other"),
        replace(KEYS, x_access_token_secret="other"),
    ],
)
def test_each_of_the_four_keys_must_be_right(keys: Credentials) -> None:
    with pytest.raises(Unauthorized):
        check(signed(keys))


def test_a_signature_holds_for_one_method_path_query_and_host() -> None:
    authorization = signed()
    for method, target in (
        ("POST", "/2/tweets?ids=1%2C2"),
        ("GET", "/2/users/me?ids=1%2C2"),
        ("GET", "/2/tweets?ids=1%2C3"),
        ("GET", "/2/tweets"),
    ):
        with pytest.raises(Unauthorized, match="Unauthorized"):
            check(authorization, method=method, target=target)
    with pytest.raises(Unauthorized):
        check(signed(url="https://api.twitter.com.example.org/2/tweets?ids=1%2C2"))


@given(st.integers(min_value=0, max_value=400), st.characters(exclude_categories=["Cs"]))
def test_one_changed_character_of_the_header_is_noticed(position: int, character: str) -> None:
    authorization = signed()
    position %= len(authorization)
    changed = authorization[:position] + character + authorization[position + 1 :]
    # The scheme's case, and blanks around commas, carry no meaning.
    assume(changed.lower().split() != authorization.lower().split() or position > 5)
    assume(changed != authorization)
    try:
        caller = check(changed)
    except Unauthorized:
        return
    assert caller.context == "user"
    assert authorization[position].isspace() or character.isspace() or position < 5


@pytest.mark.parametrize(
    ("skew_s", "good"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)]
)
def test_the_timestamp_may_be_five_minutes_off(skew_s: int, good: bool) -> None:
    authorization = signed(at_s=NOW_S + skew_s)
    if good:
        assert check(authorization).context == "user"
    else:
        with pytest.raises(Unauthorized):
            check(authorization)


def test_a_nonce_serves_once() -> None:
    gate = Gate(KEYS, 8790)
    check(signed(), gate=gate)
    check(signed(nonce="n2"), gate=gate)
    check(signed(at_s=NOW_S + 1), gate=gate)
    with pytest.raises(Unauthorized) as refused:
        check(signed(), gate=gate)
    assert refused.value.reason == "nonce used before"


def test_a_forged_request_uses_no_nonce_up() -> None:
    gate = Gate(KEYS, 8790)
    with pytest.raises(Unauthorized):
        check(signed(replace(KEYS, x_consumer_secret="guess")), gate=gate)
    assert check(signed(), gate=gate).context == "user"


def test_a_replay_is_refused_as_long_as_its_timestamp_counts() -> None:
    gate = Gate(KEYS, 8790)
    check(signed(at_s=NOW_S + 300), gate=gate)
    check(signed(at_s=NOW_S + 301, nonce="later"), gate=gate, now_s=NOW_S + 600)
    with pytest.raises(Unauthorized) as refused:
        check(signed(at_s=NOW_S + 300), gate=gate, now_s=NOW_S + 600)
    assert refused.value.reason == "nonce used before"


def test_credentials_are_made_once_and_only_the_owner_reads_them(tmp_path: Path) -> None:
    first = credentials.load(tmp_path)
    assert credentials.load(tmp_path) == first
    assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600
    other = tmp_path / "other"
    other.mkdir()
    assert credentials.load(other).x_consumer_secret != first.x_consumer_secret


def test_damaged_credentials_are_named(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{")
    with pytest.raises(CredentialsError, match=r"credentials\.json is damaged"):
        credentials.load(tmp_path)
