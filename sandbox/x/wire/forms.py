"""Forms: bodies of the two kinds that HTML forms send."""

import re
from urllib.parse import parse_qsl

from sandbox.x.call import Call
from sandbox.x.wire.answers import Fault, InvalidRequest

_BOUNDARY = re.compile(r"boundary=\"?([^\";,]{1,70})\"?", re.IGNORECASE)
_NAME = re.compile(rb'content-disposition:[^\r\n]*[; ]name="([^"]*)"', re.IGNORECASE)


def read_urlencoded(call: Call) -> dict[str, str]:
    """The fields of an application/x-www-form-urlencoded body; the last of a name counts."""
    try:
        return dict(parse_qsl(call.body.decode("ascii"), keep_blank_values=True, max_num_fields=50))
    except ValueError:  # no ASCII, or too many fields
        return {}


def read_multipart(call: Call) -> dict[str, bytes]:
    """The parts of a multipart/form-data body by name; raises InvalidRequest (RFC 7578)."""
    boundary = _BOUNDARY.search(call.content_type)
    if boundary is None:
        raise InvalidRequest(Fault(message="Requests with multipart bodies must name their boundary."))
    fields: dict[str, bytes] = {}
    for part in (b"\r\n" + call.body).split(b"\r\n--" + boundary[1].encode("latin-1"))[1:]:
        head, blank, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if blank and name:
            fields[name[1].decode("utf-8", "replace")] = content
    return fields
