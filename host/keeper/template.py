"""The warm template: what workers need, imported once, so that a fork has it at once and in shared memory."""

import ctypes
import gc
import hmac
import os
import pkgutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import GeneratorType, NoneType

from host.keeper import newborn
from host.keeper.worker import ENTRY, function, prepare

GROUP = "socialfleet.workers"
FLEET = "workers.fleet"
OURS = frozenset({"config", "coordination", "workers"})
EVERYBODY = "*"
EVERYBODYS = ("config", "workers.process")
"""What every worker's process needs beside its own module."""
SOURCES = (".py", ".sql")
SIZES = range(48, 513, 16)
BYTES_HEAD = 33
PLUGS = 200
"""Of each size so many plugs fill the holes that imports left: what a fork makes lies close together then,
on pages of its own, instead of copying a shared page for each little thing."""
OPENED = 0x2 | 0x4 | 0x8 | 0x40
"""OPENSSL_INIT_*: texts of errors, all ciphers, all digests, its configuration file."""
M_ARENA_MAX = -8  # malloc.h
ABSTRACT = (Iterable, Mapping, MutableMapping, Sequence)
PLAIN = (NoneType, bool, int, float, str, bytes, tuple, list, dict, set, frozenset, GeneratorType)
Stamp = tuple[int, int, int]


@dataclass(kw_only=True)
class Template:
    """What is imported, and whether it is still what is on disk.

    Attributes:
        entry: what a worker runs; `module:function`.
        modules: the modules that are imported warm, each with the name of the worker that it is for.
        packages: the top-level packages whose files are watched for changes.
        prepare: what is done once everything is imported, so that no fork needs to.
        failed: the workers whose module could not be imported, with the reason.
    """

    entry: str = ENTRY
    modules: Mapping[str, str] = field(default_factory=dict[str, str])
    packages: frozenset[str] = OURS
    prepare: Callable[[], None] = lambda: None
    failed: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        self._waiting = [self.entry.partition(":")[0], *self.modules]
        self._stamps: dict[str, Stamp | None] = {}
        self._began_ns = time.time_ns()
        self._plugs: list[bytes] = []

    @property
    def is_warm(self) -> bool:
        """Whether everything is imported, or was tried to be."""
        return not self._waiting

    def warm(self) -> None:
        """Import the next module; whatever it does there, it ends nothing here."""
        module = self._waiting.pop(0)
        try:
            import_module(module)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a worker's own fault, told by its own process
            self.failed[self.modules.get(module, EVERYBODY)] = f"{type(error).__name__}: {error}"
        newborn.forget_handlers()
        if not self._waiting:
            self._stamps = self._look()
            self._prepare()
            gc.collect()
            self._plugs = [bytes(size - BYTES_HEAD) for size in SIZES for _ in range(PLUGS)]
            _forget_lookups()
            gc.freeze()  # a collection in a child must not touch, and so copy, what is here

    def _prepare(self) -> None:
        try:
            self.prepare()
        except Exception as error:  # noqa: BLE001  each fork does it by itself, as an interpreter of its own would
            self.failed[EVERYBODY] = f"{type(error).__name__}: {error}"

    def serves(self, worker: str) -> bool:
        """Whether a fork has this worker's code as it is on disk, and nothing that a fork must not have."""
        return (
            self.is_warm
            and not {worker, EVERYBODY} & self.failed.keys()
            and (worker in self.modules.values() or not self.failed)
            and not self._is_stale()
            and _thread_count() == 1
        )

    def run(self, worker: str, slot: int) -> int:
        """Be that worker, in a fork."""
        return int(function(self.entry)(worker, slot))

    def _is_stale(self) -> bool:
        # A file that was written while the imports ran may have been read before or after.
        return any(
            stamp is None or stamp[0] >= self._began_ns or _stamp(file) != stamp
            for file, stamp in self._stamps.items()
        )

    def _look(self) -> dict[str, Stamp | None]:
        """The stamp of every source that is loaded, and of those that lie beside them."""
        places: set[Path] = set()
        stamps: dict[str, Stamp | None] = {}
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and name.partition(".")[0] in self.packages:
                stamps[file] = _stamp(file)
                places.add(Path(file).parent / "queries")
        for place in places:
            if place.is_dir():
                stamps |= {str(file): _stamp(str(file)) for file in place.iterdir() if file.suffix in SOURCES}
        return stamps


def of_the_fleet() -> Template:
    """The template of the program's own workers, and of those that installed packages register."""
    package = find_spec(FLEET)
    places: Sequence[str] = (package.submodule_search_locations or ()) if package else ()
    modules = dict.fromkeys(EVERYBODYS, EVERYBODY)
    modules |= {f"{FLEET}.{module.name}": module.name for module in pkgutil.iter_modules(places)}
    points = entry_points(group=GROUP)
    modules |= {point.module: point.name for point in points}
    packages = OURS | {point.module.partition(".")[0] for point in points}
    names = [name for name in modules.values() if name != EVERYBODY]
    return Template(modules=modules, packages=packages, prepare=lambda: _prepare_workers(names))


def _prepare_workers(names: Sequence[str]) -> None:
    """Read the configuration, what the workers are, and what a login needs of the client's own library."""
    _have_one_heap()
    prepare(names)
    _introduce_kinds()
    _open_cryptography()


def _have_one_heap() -> None:
    """Let a fork's threads allocate where the others do: pages of their own would hardly be used."""
    with suppress(OSError, AttributeError):  # not every C library has it
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _introduce_kinds() -> None:
    """Let abstract kinds meet the plain ones: at a first meeting each goes through all of its subclasses."""
    for abstract in ABSTRACT:
        for kind in PLAIN:
            issubclass(kind, abstract)


def _forget_lookups() -> None:
    """Empty the cache of attribute lookups: each that a fork replaced would write into the name before."""
    forget = getattr(sys, "_clear_internal_caches", None) or getattr(sys, "_clear_type_cache", None)
    if forget is not None:
        forget()


def _open_cryptography() -> None:
    """Let Python's OpenSSL and libpq's make their tables, half a megabyte, before the forks.

    Nothing where libpq brought none of its own: then it is opened at the first login, as ever. Random numbers
    come anew all the same: OpenSSL seeds them in each process that finds itself forked.
    """
    for digest in ("sha1", "sha256"):
        hmac.new(b"key", b"word", digest).digest()  # Python's own OpenSSL
    with open("/proc/self/maps", encoding="utf-8") as maps:  # noqa: PTH123  no file of the disk
        paths = {line.split()[-1] for line in maps if "psycopg" in line and "/libcrypto" in line}
    with suppress(OSError, AttributeError):
        for path in paths:
            library = ctypes.CDLL(path)
            library.OPENSSL_init_crypto(ctypes.c_uint64(OPENED), None)
            library.EVP_sha256.restype = ctypes.c_void_p
            digest, found = ctypes.c_void_p(library.EVP_sha256()), ctypes.create_string_buffer(64)
            library.HMAC(digest, b"key", 3, b"word", ctypes.c_size_t(4), found, None)
            library.RAND_bytes(found, 16)


def _stamp(file: str) -> Stamp | None:
    try:
        found = os.stat(file)  # noqa: PTH116  a hundred of them before a fork
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _thread_count() -> int:
    """Threads of this process as the kernel counts them; those that no Python code made, too."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208  a count
