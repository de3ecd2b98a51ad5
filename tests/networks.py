"""Networks between hosts and their database that can be cut: namespaces where allowed, else proxies."""

import contextlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from threading import Timer
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from tests.fault_proxy import FaultProxy

NOTICED_S = 14.0
"""When a server's keepalives have told it that a silent host is lost (see `coordination.database`)."""


class Network(Protocol):
    """What lies between the hosts and the server."""

    listen: str
    """The address that the server must listen on, beside loopback; empty where loopback is enough."""

    def before(self, host: str) -> Sequence[str]:
        """What stands before a command that runs on that host."""
        ...

    def dsn(self, host: str, dsn: str, port: int) -> str:
        """The server's login as that host sees it."""
        ...

    def cut(self, host: str) -> None:
        """Let no packet of that host through."""
        ...

    def heal(self, host: str) -> None:
        """Let them through again."""
        ...

    def close(self) -> None:
        """Take everything away."""
        ...


class Namespaces:
    """A network namespace a host, on one bridge with the server; a cut takes the host's link down."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._id = os.getpid() % 10_000
        self._bridge = f"sf{self._id}"
        self._net = f"10.213.{self._id % 250}"
        self.listen = f"{self._net}.1"
        self._hosts = list(hosts)
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("addr", "add", f"{self.listen}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for number, host in enumerate(self._hosts):
                self._join(host, f"{self._net}.{number + 2}")
        except BaseException:
            self.close()
            raise

    def _join(self, host: str, address: str) -> None:
        space, here, there = self._space(host), self._link(host), f"{self._link(host)}p"
        _ip("netns", "add", space)
        _ip("link", "add", here, "type", "veth", "peer", "name", there)
        _ip("link", "set", there, "netns", space)
        _ip("link", "set", here, "master", self._bridge)
        _ip("link", "set", here, "up")
        for command in (
            ("addr", "add", f"{address}/24", "dev", there),
            ("link", "set", there, "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-n", space, *command)

    def _space(self, host: str) -> str:
        return f"sf{self._id}-{host}"

    def _link(self, host: str) -> str:
        return f"sf{self._id}{host}"

    def before(self, host: str) -> Sequence[str]:
        """Run in the host's namespace."""
        return ("ip", "netns", "exec", self._space(host))

    def dsn(self, host: str, dsn: str, port: int) -> str:
        """The server on the bridge."""
        del host
        return tcp(dsn, self.listen, port)

    def cut(self, host: str) -> None:
        """Take its link down: packets of both sides are lost, and nobody is told."""
        _ip("link", "set", self._link(host), "down")

    def heal(self, host: str) -> None:
        """Bring its link up."""
        _ip("link", "set", self._link(host), "up")

    def close(self) -> None:
        """Remove namespaces and bridge."""
        for host in self._hosts:
            for command in (("link", "del", self._link(host)), ("netns", "del", self._space(host))):
                with contextlib.suppress(subprocess.CalledProcessError):
                    _ip(*command)
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._bridge)


class Proxies:
    """A fault proxy a host; a cut is a black hole, and what the server's keepalives would do happens too."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self.listen = ""
        self._hosts = list(hosts)
        self._proxies: dict[str, FaultProxy] = {}
        self._timers: dict[str, Timer] = {}

    def before(self, host: str) -> Sequence[str]:
        """Nothing."""
        del host
        return ()

    def dsn(self, host: str, dsn: str, port: int) -> str:
        """The host's own proxy, which is begun now."""
        proxy = self._proxies[host] = FaultProxy(("127.0.0.1", port))
        proxy.start()
        return proxy.dsn(dsn)

    def cut(self, host: str) -> None:
        """Swallow everything; the server ends the sessions when its keepalives have told it."""
        self._proxies[host].switch("black-hole")
        self._timers[host] = Timer(NOTICED_S, self._proxies[host].switch, ["half-open"])
        self._timers[host].start()

    def heal(self, host: str) -> None:
        """Let bytes pass; connections that lost some are reset."""
        self._timers[host].cancel()
        self._timers[host].join()
        self._proxies[host].switch("pass")

    def close(self) -> None:
        """End the proxies."""
        for timer in self._timers.values():
            timer.cancel()
            timer.join()
        for proxy in self._proxies.values():
            proxy.stop()


def between(hosts: Sequence[str]) -> Network:
    """Namespaces where this process may make them, else proxies."""
    if os.geteuid() == 0 and Path("/usr/sbin/ip").exists():
        with contextlib.suppress(subprocess.CalledProcessError):
            return Namespaces(hosts)
    return Proxies(hosts)


def tcp(dsn: str, host: str, port: int) -> str:
    """The same login over TCP."""
    parts = urlsplit(dsn)
    login = parts.netloc.rpartition("@")[0]
    query = "&".join(
        f"{name}={value}" for name, value in parse_qsl(parts.query) if name not in {"host", "port"}
    )
    return urlunsplit(parts._replace(netloc=f"{login}@{host}:{port}", query=query))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
