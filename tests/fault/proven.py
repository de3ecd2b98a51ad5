"""What a host's manager does for a fleet: it saw a process end, and says so."""

from typing import LiteralString

import psycopg

ENDED: LiteralString = """
    SELECT fleet.record_process_ends(i.host, jsonb_build_array(jsonb_build_object(
        'worker', i.worker, 'slot', i.slot, 'pid', i.pid, 'pid_started', i.pid_started, 'boot_id', i.boot_id,
        'pid_namespace', i.pid_namespace, 'how', 'reaped by the suite', 'ago_s', 0)))
    FROM (SELECT DISTINCT ON (l.pid_started) l.* FROM fleet.incarnations l
        WHERE l.pid = %s AND l.died_at IS NULL) i
"""


def record_end(dsn: str, pid: int) -> None:
    """Prove dead what lived in a process that this one reaped.

    Raises:
        psycopg.OperationalError: the server is away.
    """
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute(ENDED, (pid,))
