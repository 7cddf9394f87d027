"""Threads that are there before they are needed."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor


def started_pool(n_threads: int, name: str) -> ThreadPoolExecutor:
    """Return a pool whose threads have all been started.

    A pool starts each thread when it first needs one. Where the system has none left by then, the
    work stays in the queue of the pool, counted as waiting, and nothing ever takes it.

    Args:
        n_threads: of the pool.
        name: what the names of the threads begin with.

    Raises:
        OSError: the system has no thread left.
    """
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
    are_all_there = threading.Event()
    try:
        for _ in range(n_threads):
            pool.submit(are_all_there.wait)
    except RuntimeError as error:
        pool.shutdown(wait=False, cancel_futures=True)
        raise OSError(errno.EAGAIN, "no thread can be started; raise ulimit -u") from error
    finally:
        are_all_there.set()
    return pool
