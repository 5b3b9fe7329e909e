"""Processes that do not outlive the one that started them."""

import multiprocessing
import os
import signal
import threading


def follow_parent() -> None:
    """Leave Ctrl-C to the parent of this multiprocessing child, and end at once when the parent is gone.

    A killed parent (SIGKILL) cannot stop its workers; left alone, they would go on with their slides for minutes, in
    the way of the run that is started next.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
