"""Jobs that go wrong, of a module that worker processes can import."""

import os
import signal
import time


def die_on_killer(name: str) -> str:
    if name == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def sleep_on_zero(number: int) -> int:
    if number == 0:
        time.sleep(60)
    return number


def fail_on_zero(number: int) -> float:
    return 1 / number


class HangsAtStart:
    """A job that its process takes a minute to unpickle: it hangs before it has begun."""

    def __reduce__(self) -> tuple:
        return time.sleep, (60,)
