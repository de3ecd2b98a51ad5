"""Media: announced, sent in segments, finished, attached and shown."""

import base64
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.sandbox.controlled import controlled
from tests.integration.sandbox.running import Sandbox, running, write_world

PICTURE = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    directory = tmp_path_factory.mktemp("media")
    world = write_world(directory / "world.csv", [("ada", "Tea")])
    with running(directory / "state", "--world", world, "--people", "5") as started:
        yield started


def announced(sandbox: Sandbox, content: bytes, media_type: str = "image/png") -> dict[str, Any]:
    body = {"media_type": media_type, "media_category": "tweet_image", "total_bytes": len(content)}
    answer = sandbox.call("POST", "/2/media/upload/initialize", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def append(sandbox: Sandbox, media_id: str, index: int, content: bytes) -> requests.Response:
    files = {"media": ("chunk", content, "application/octet-stream")}
    path = f"/2/media/upload/{media_id}/append"
    return sandbox.call("POST", path, data={"segment_index": str(index)}, files=files)


def finalize(sandbox: Sandbox, media_id: str) -> requests.Response:
    return sandbox.call("POST", f"/2/media/upload/{media_id}/finalize")


def test_segments_in_any_order_become_a_picture_of_a_post(sandbox: Sandbox) -> None:
    upload = announced(sandbox, PICTURE)
    assert upload["media_key"] == f"3_{upload['id']}"
    assert append(sandbox, upload["id"], 1, PICTURE[5000:]).status_code == 200
    early = finalize(sandbox, upload["id"])
    assert (early.status_code, "do not add up" in early.text) == (400, True)
    as_json = {"segment_index": 0, "media": base64.b64encode(PICTURE[:5000]).decode()}
    assert sandbox.call("POST", f"/2/media/upload/{upload['id']}/append", json=as_json).status_code == 200
    finished = finalize(sandbox, upload["id"]).json()["data"]
    assert (finished["size"], "processing_info" in finished) == (len(PICTURE), False)
    described = {"id": upload["id"], "metadata": {"alt_text": {"text": "A cup"}}}
    assert sandbox.call("POST", "/2/media/metadata", json=described).status_code == 200
    client = sandbox.client()
    post = client.create_tweet(text="A picture", media_ids=[upload["id"]]).data
    found = client.get_tweet(
        post["id"], expansions=["attachments.media_keys"], media_fields=["alt_text", "type", "url"]
    )
    assert found.data.attachments == {"media_keys": [upload["media_key"]]}
    (medium,) = found.includes["media"]
    assert (medium.media_key, medium.type, medium.alt_text) == (upload["media_key"], "photo", "A cup")


def test_a_picture_needs_no_text(sandbox: Sandbox) -> None:
    files = {"media": ("a.jpg", PICTURE, "image/jpeg")}
    form = {"media_category": "tweet_image", "media_type": "image/jpeg"}
    upload = sandbox.call("POST", "/2/media/upload", data=form, files=files).json()["data"]
    assert upload["size"] == len(PICTURE)
    for _ in range(2):  # and is no duplicate of another one without text
        made = sandbox.call("POST", "/2/tweets", json={"media": {"media_ids": [upload["id"]]}})
        assert made.status_code == 201


def test_a_film_is_not_attached_before_it_is_worked_through(tmp_path: Path) -> None:
    with controlled(tmp_path / "x") as x:
        sandbox = x.sandbox
        began = x.now() + timedelta(minutes=1)  # ahead of what passes until it is set; then it hardly moves
        assert x.set_clock(began, rate=0.001).status_code == 200
        upload = announced(sandbox, PICTURE, "video/mp4")
        append(sandbox, upload["id"], 0, PICTURE)
        info = finalize(sandbox, upload["id"]).json()["data"]["processing_info"]
        assert (info["state"], info["check_after_secs"]) == ("in_progress", 1)
        attached = {"media": {"media_ids": [upload["id"]]}}
        early = sandbox.call("POST", "/2/tweets", json=attached)
        assert (early.status_code, "media IDs are invalid" in early.text) == (400, True)
        for passed_s, state in ((0.5, "in_progress"), (1.5, "in_progress"), (2.5, "succeeded")):
            assert x.set_clock(began + timedelta(seconds=passed_s), rate=0.001).status_code == 200
            told = sandbox.call("GET", f"/2/media/upload?command=STATUS&media_id={upload['id']}")
            assert told.json()["data"]["processing_info"]["state"] == state
        assert sandbox.call("POST", "/2/tweets", json=attached).status_code == 201


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "$.media_type: is missing"),
        ({"media_type": "text/plain", "total_bytes": 1}, "$.media_type: does not have a value"),
        ({"media_type": "image/png", "total_bytes": 0}, "$.total_bytes: is [0]"),
        ({"media_type": "image/png", "total_bytes": 6 * 1024 * 1024}, "a whole number from 1 to 5242880"),
        ({"media_type": "image/png", "total_bytes": 9, "colour": 1}, "$.colour: is not defined"),
    ],
)
def test_an_upload_that_x_would_not_take_is_refused(
    sandbox: Sandbox, body: dict[str, Any], named: str
) -> None:
    refused = sandbox.call("POST", "/2/media/upload/initialize", json=body)
    assert refused.status_code == 400
    assert named in str(refused.json()["errors"])


def test_segments_go_to_open_uploads_only(sandbox: Sandbox) -> None:
    assert append(sandbox, "404", 0, b"x").status_code == 400
    upload = announced(sandbox, b"xy")
    assert append(sandbox, upload["id"], 5000, b"xy").status_code == 400
    assert append(sandbox, upload["id"], 0, b"").status_code == 400
    assert append(sandbox, upload["id"], 0, b"xy").status_code == 200
    assert finalize(sandbox, upload["id"]).status_code == 200
    assert append(sandbox, upload["id"], 1, b"z").status_code == 400


def test_the_app_alone_uploads_nothing(sandbox: Sandbox) -> None:
    refused = sandbox.bearer("POST", "/2/media/upload/initialize", json={})
    assert refused.json()["title"] == "Unsupported Authentication"
