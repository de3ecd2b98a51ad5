"""The machine: what names it across its boots, so that another boot proves its earlier processes dead."""

import re
import secrets
from hashlib import sha256
from pathlib import Path

from host.state_directory import StateDirectory

PART = "machine"
INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # linux/proc_ns.h, PROC_PID_INIT_INO: a machine's own, no container's
MACHINE_ID = re.compile(r"[0-9a-f]{32}")  # machine-id(5); before its first boot an image says other things


def identity(state: StateDirectory, *, etc: Path = Path("/etc"), proc: Path = Path("/proc")) -> str:
    """Give what no other machine has; empty where that can't be known, and no boot proves anything then.

    Two machines made from one image may have one /etc/machine-id, and a cut-off one's workers must not count
    as dead because the other began: so it counts together with a number that was drawn in this directory. In
    a container neither says where it runs: the one is the image's, the other may be a volume that moved.
    """
    try:
        namespace = (proc / "self/ns/pid").stat().st_ino
        installed = (etc / "machine-id").read_text("ascii").strip()
        if namespace != INITIAL_PID_NAMESPACE or not MACHINE_ID.fullmatch(installed):
            return ""
        drawn = state.path / PART
        if not drawn.exists():
            state.put(PART, secrets.token_hex(16))
        return sha256(f"{installed} {drawn.read_text('ascii').strip()}".encode()).hexdigest()[:32]
    except (OSError, ValueError):
        return ""
