"""Which process of a stage takes the stage's own run when it starts one."""

import fcntl
import multiprocessing
import os
from pathlib import Path


def adopt(claim: Path) -> bool:
    """Whether the run that this process starts is the stage's own.

    It is for the first one that asks, and for those that come when that one has gone: the stage's
    next command, or its next life after a restart. Processes beside it, and workers that Python's
    multiprocessing started, have runs of their own, below the stage's. The claim is a lock, held
    until this process and those that were forked from it have ended.
    """
    claimed_before = claim.exists()
    if claimed_before and multiprocessing.parent_process() is not None:
        return False
    claim.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(claim, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True  # the descriptor stays open: it is the claim
