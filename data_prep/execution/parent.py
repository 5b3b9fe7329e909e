"""Processes that do not outlive the one that started them, and pipes to them on which nobody waits for ever."""

import multiprocessing
import os
import signal
import socket
import struct
import threading
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

END_S = 10.0
"""How long the end of a killed process is waited for."""


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


def limit_sends(pipe: Connection, limit_s: float) -> None:
    """Let sending raise ``BlockingIOError`` where the other end takes nothing in for so long; the pipe is spoilt."""
    with socket.socket(fileno=os.dup(pipe.fileno())) as mine:
        seconds, rest = divmod(limit_s, 1)
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(seconds), int(rest * 1e6)))


def end(process: BaseProcess) -> None:
    """Kill a child and wait for its end for a while.

    One that the kernel cannot end, since its disk or mount hangs, is left alone, and not waited for when this process
    ends, as multiprocessing would do without limit.
    """
    process.kill()
    process.join(END_S)
    if process.is_alive():
        print(f"warning: process {process.pid} cannot be ended, its disk or mount hangs; it is left alone")
        multiprocessing.process._children.discard(process)
