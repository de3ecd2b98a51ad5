"""`socialfleet pools`: list and set."""

from tests.integration.host.shell import Shell


def test_pools_are_listed_and_those_made_at_first_use_on_demand(shell: Shell) -> None:
    with shell.database.connect() as fleet:
        assert fleet.reservations.reserve_resource("content", "content_pipeline", "w", units=97) is not None
        assert fleet.reservations.reserve_resource("conversation", "a thread", "w") is not None
        assert fleet.rate_limits.can_make_request("post_tweet", "w", account="sandbox").allowed
        assert shell.run("pools", "list") == 0
        heads, *lines = shell.lines()
        assert heads.split()[:5] == ["TYPE", "ID", "ACCOUNT", "CAPACITY", "FREE"]
        assert [line.split()[: 3 if line.startswith("api_quota") else 2] for line in lines] == [
            ["content", "content_pipeline"],
            *(
                ["api_quota", pool, account]
                for account in ("default", "sandbox")
                for pool in ("api_requests", "api_tweets")
            ),
        ]
        assert "97.0%" in lines[0]
        assert shell.run("pools", "list", "--all", "--json") == 0
        assert [pool["resource_id"] for pool in shell.json()][:2] == ["content_pipeline", "a thread"]


def test_a_pool_is_set_with_a_reason_and_a_bad_value_names_what_is_allowed(shell: Shell) -> None:
    assert shell.run("pools", "set", "memory", "here", "--capacity", "64", "--strategy", "equal") == 0
    assert shell.lines() == ["memory here has 64 units (64 to 64 by load), shared by equal"]
    assert (
        shell.run("pools", "set", "memory", "here", "--min-capacity", "16", "--reason", "load", "--json") == 0
    )
    made = shell.json()
    assert (made["min_capacity"], made["total_capacity"], made["strategy"]) == (16, 64, "equal")
    assert shell.rows("SELECT reason FROM fleet.audits ORDER BY id DESC LIMIT 1") == [("load",)]
    assert shell.run("pools", "set", "gold", "here", "--capacity", "1") == 2
    assert "resource_type is 'gold': allowed is one of" in shell.complaint()
