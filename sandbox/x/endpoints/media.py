"""Media: uploads by segments or at once, their state, and the text for those who can't see them."""

import base64
import binascii
from typing import Any

from sandbox.x import text as texts
from sandbox.x import tiers
from sandbox.x.call import Call, Endpoint
from sandbox.x.store.media import Upload
from sandbox.x.store.store import Store
from sandbox.x.wire import bodies, forms
from sandbox.x.wire.answers import Fault, InvalidRequest, not_found

EXPIRES_S = 86_400
MAX_SEGMENT_BYTES = 5 * 1024 * 1024
MAX_BODY_BYTES = MAX_SEGMENT_BYTES * 4 // 3 + 65_536  # as base64 in JSON
MAX_POSITION = 999
MAX_ALT_TEXT = 1000  # characters
MIB = 1024 * 1024
TYPES = {
    "image/jpeg": 5 * MIB,
    "image/png": 5 * MIB,
    "image/webp": 5 * MIB,
    "image/gif": 15 * MIB,
    "video/mp4": 512 * MIB,
    "video/quicktime": 512 * MIB,
}
CATEGORIES = ("tweet_image", "tweet_gif", "tweet_video", "amplify_video", "dm_image", "dm_gif", "dm_video")


def initialize(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/media/upload/initialize: announces an upload."""
    call.query.allow()
    call.query.check()
    body = bodies.read(call)
    body.allow("media_type", "media_category", "total_bytes", "additional_owners", "shared")
    media_type = body.one_of("media_type", tuple(TYPES))
    category = body.one_of("media_category", CATEGORIES)
    body.ids("additional_owners", least=0, most=100)
    body.flag("shared")
    total_bytes = body.number("total_bytes", least=1, most=TYPES.get(media_type or "", 512 * MIB))
    for name in ("media_type", "total_bytes"):
        if name not in body.values:
            body.fault(name, "is missing but it is required")
    body.check()
    upload = store.media.begin(
        media_type=media_type or "", category=category, total_bytes=total_bytes or 0, at_ms=call.now_ms
    )
    return {"data": {"id": str(upload.id), "media_key": upload.key, "expires_after_secs": EXPIRES_S}}


def append(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/media/upload/:id/append: one segment, as a form or as JSON."""
    upload = _path_upload(store, call)
    position, content = _read_segment(call)
    if upload.finalized_ms is not None:
        raise InvalidRequest(Fault(message="The media is finalized: no segment can be appended."))
    store.media.append(upload, position, len(content))
    return {"data": {"expires_at": (upload.created_ms // 1000) + EXPIRES_S}}


def finalize(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/media/upload/:id/finalize: every segment is there."""
    upload = _path_upload(store, call)
    if upload.received_bytes != upload.total_bytes:
        raise InvalidRequest(
            Fault(
                message=f"Segments do not add up to provided total file size: {upload.received_bytes} "
                f"of {upload.total_bytes} bytes."
            )
        )
    if upload.finalized_ms is None:
        store.media.finalize(upload, call.now_ms)
    return {"data": _view(store.media.upload(upload.id) or upload, call)}


def upload_status(store: Store, call: Call) -> dict[str, Any]:
    """GET /2/media/upload?media_id=: how far X is with an upload."""
    call.query.allow("command", "media_id")
    call.query.one_of("command", ("STATUS",))
    (media_id,) = call.query.ids("media_id", most=1) or [0]
    call.query.check()
    upload = store.media.upload(media_id)
    if upload is None:
        return {"errors": [not_found("media", "media_id", str(media_id))]}
    return {"data": _view(upload, call)}


def upload_at_once(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/media/upload: a small picture in one request."""
    call.query.allow()
    call.query.check()
    if _is_form(call):
        fields = forms.read_multipart(call)
        content = fields.get("media", b"")
        media_type = fields.get("media_type", b"image/jpeg").decode("utf-8", "replace")
        category = fields.get("media_category", b"tweet_image").decode("utf-8", "replace")
    else:
        body = bodies.read(call)
        body.allow("media", "media_type", "media_category", "additional_owners", "shared")
        content = _decode(body.text("media") or "")
        media_type = body.one_of("media_type", tuple(TYPES)) or "image/jpeg"
        category = body.one_of("media_category", CATEGORIES) or "tweet_image"
        body.check()
    if not content or media_type not in TYPES or len(content) > TYPES[media_type]:
        raise InvalidRequest(
            Fault(message=f"media: expected the content of a {', '.join(TYPES)} within its size")
        )
    upload = store.media.begin(
        media_type=media_type, category=category, total_bytes=len(content), at_ms=call.now_ms
    )
    store.media.append(upload, 0, len(content))
    store.media.finalize(upload, call.now_ms)
    return {"data": _view(store.media.upload(upload.id) or upload, call)}


def describe(store: Store, call: Call) -> dict[str, Any]:
    """POST /2/media/metadata: the text for those who can't see it."""
    call.query.allow()
    call.query.check()
    body = bodies.read(call)
    body.allow("id", "metadata")
    media_id = body.id("id", required=True)
    metadata = body.object("metadata")
    alt = None if metadata is None else metadata.object("alt_text")
    alt_text = None if alt is None else alt.text("text")
    if alt_text is not None and texts.has_forbidden_character(alt_text):
        body.fault("metadata.alt_text.text", "has U+FFFE, U+FEFF, U+FFFF or half a surrogate: not allowed")
    elif alt_text is not None and len(alt_text) > MAX_ALT_TEXT:
        why = f"has {len(alt_text)} characters, at most {MAX_ALT_TEXT} expected"
        body.fault("metadata.alt_text.text", why)
    body.check()
    upload = store.media.upload(media_id or 0)
    if upload is None:
        return {"errors": [not_found("media", "id", str(media_id))]}
    if alt_text is not None:
        store.media.describe(upload, alt_text)
    return {"data": {"id": str(upload.id), "associated_metadata": {"alt_text": {"text": alt_text or ""}}}}


def _view(upload: Upload, call: Call) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": str(upload.id),
        "media_key": upload.key,
        "size": upload.received_bytes,
        "expires_after_secs": EXPIRES_S,
    }
    if upload.processing_ms:
        view["processing_info"] = _processing(upload, call.now_ms)
    return view


def _processing(upload: Upload, now_ms: int) -> dict[str, Any]:
    if upload.finalized_ms is None:
        return {"state": "pending", "check_after_secs": 1}
    done = min(1.0, (now_ms - upload.finalized_ms) / upload.processing_ms)
    if done >= 1:
        return {"state": "succeeded", "progress_percent": 100}
    return {"state": "in_progress", "check_after_secs": 1, "progress_percent": int(100 * max(0.0, done))}


def _path_upload(store: Store, call: Call) -> Upload:
    call.query.allow()
    media_id = call.path_id()
    call.query.check()
    upload = store.media.upload(media_id)
    if upload is None:
        raise InvalidRequest(Fault(message=f"Media ID [{media_id}] is unknown or expired."))
    return upload


def _read_segment(call: Call) -> tuple[int, bytes]:
    """The segment's place and content; raises InvalidRequest."""
    if _is_form(call):
        fields = forms.read_multipart(call)
        place = fields.get("segment_index", b"").decode("ascii", "replace")
        content = fields.get("media", b"")
        position = int(place) if place.isascii() and place.isdigit() and len(place) <= 3 else None  # noqa: PLR2004 - MAX_POSITION
    else:
        body = bodies.read(call)
        body.allow("segment_index", "media")
        position = body.number("segment_index", least=0, most=MAX_POSITION)
        content = _decode(body.text("media") or "")
        body.check()
    if position is None or not 0 < len(content) <= MAX_SEGMENT_BYTES:
        raise InvalidRequest(
            Fault(
                message=f"segment_index and media: expected a number from 0 to {MAX_POSITION}, and 1 to "
                f"{MAX_SEGMENT_BYTES} bytes"
            )
        )
    return position, content


def _is_form(call: Call) -> bool:
    return call.content_type.lower().startswith("multipart/form-data")


def _decode(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(Fault(message="$.media: expected base64")) from error


def _written(name: str, path: str, answer: Any, max_body_bytes: int = 65_536) -> Endpoint:
    return Endpoint(
        name=name,
        method="POST",
        path=path,
        answer=answer,
        who="user",
        scopes=("media.write",),
        tiers=tiers.ALL,
        max_body_bytes=max_body_bytes,
    )


ENDPOINTS = (
    _written("initialize_media", "/2/media/upload/initialize", initialize),
    _written("append_media", "/2/media/upload/{id}/append", append, MAX_BODY_BYTES),
    _written("finalize_media", "/2/media/upload/{id}/finalize", finalize),
    _written("upload_media", "/2/media/upload", upload_at_once, MAX_BODY_BYTES),
    _written("describe_media", "/2/media/metadata", describe),
    Endpoint(
        name="media_status",
        method="GET",
        path="/2/media/upload",
        answer=upload_status,
        who="user",
        scopes=("media.write",),
        tiers=tiers.ALL,
    ),
)
