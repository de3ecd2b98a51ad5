from coordination import Fleet


def test_a_lock_is_granted_once(fleet: Fleet) -> None:
    lease = fleet.engagement.request_lock("1", "a", "quote")
    assert lease is not None
    assert fleet.engagement.request_lock("1", "b", "reply") is None
