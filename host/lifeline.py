"""The lifeline: a child process that ends when its parent does, however the parent ended.

A parent killed with SIGKILL can't clean up after itself, so the kernel is asked beforehand. Linux can do
that (prctl(2), PR_SET_PDEATHSIG); elsewhere the lifeline does nothing, and the next start finds what is left.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from functools import cache

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
NAME_BYTES = 15  # what the kernel keeps of a process's name
ORPHANED = 113  # the exit code of a child whose parent was gone before its lifeline was tied


def bound_to_parent(signum: int) -> Callable[[], None]:
    """Give a `preexec_fn` for `subprocess.Popen` after which the child gets `signum` when its parent dies.

    Call it in the process that will fork: that process's pid is what the child compares. The kernel drops
    the request when a process changes its user; CPython runs `preexec_fn` after it did so, hence it holds
    for `Popen(user=...)` too. It also survives exec, but not a further fork of the child.

    The signal follows the forking *thread*: when that thread ends, the child is signalled although the
    process lives on. So fork from the main thread, or from one that lasts as long as the child should.

    Args:
        signum: the signal that the child receives; what it means is the child's matter.

    Returns:
        A function that allocates little, logs nothing and takes no lock, as a forked child needs. It ends
        the child at once when the parent died before the request stood or the kernel refused it.
    """
    if sys.platform != "linux":
        return _untied
    parent = os.getpid()
    prctl = _prctl()  # bound here: a forked child must not load libraries

    def tie() -> None:
        if signum != signal.SIGKILL:
            # A shell's background job is born with SIGINT ignored, and a child inherits that.
            signal.signal(signum, signal.SIG_DFL)
        if prctl(PR_SET_PDEATHSIG, signum) != 0 or os.getppid() != parent:
            os._exit(ORPHANED)

    return tie


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, whatever session it made itself."""
    if sys.platform == "linux":
        _prctl()(PR_SET_CHILD_SUBREAPER, 1)


def be_called(name: str) -> None:
    """Give this process a name for `ps` and `top`; the first 15 bytes of it show."""
    if sys.platform == "linux":
        _prctl()(PR_SET_NAME, name.encode()[:NAME_BYTES])


@cache
def _prctl() -> Callable[[int, int | bytes], int]:
    """The system call; what is said to it is a number, or a name's bytes."""
    function = ctypes.CDLL(None, use_errno=True).prctl
    function.restype = ctypes.c_int

    def prctl(option: int, first: int | bytes) -> int:
        given = first if isinstance(first, bytes) else ctypes.c_ulong(first)
        return int(function(ctypes.c_int(option), given, *[ctypes.c_ulong(0)] * 3))

    return prctl


def _untied() -> None:
    """Do nothing: this platform has no lifeline."""
