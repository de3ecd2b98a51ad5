"""The lifeline: a child process that ends when its parent does, however the parent ended.

A parent killed with SIGKILL can't clean up after itself, so the kernel is asked beforehand. Linux can do
that (prctl(2), PR_SET_PDEATHSIG); elsewhere the lifeline does nothing, and the next start finds what is left.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # linux/prctl.h
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
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # bound here: a forked child must not load libraries
    prctl.argtypes = (ctypes.c_int, ctypes.c_ulong)
    prctl.restype = ctypes.c_int

    def tie() -> None:
        if signum != signal.SIGKILL:
            # A shell's background job is born with SIGINT ignored, and a child inherits that.
            signal.signal(signum, signal.SIG_DFL)
        if prctl(PR_SET_PDEATHSIG, signum) != 0 or os.getppid() != parent:
            os._exit(ORPHANED)

    return tie


def _untied() -> None:
    """Do nothing: this platform has no lifeline."""
