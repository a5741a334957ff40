"""How a command is stopped from outside: a signal, or the death of the comparison that it belongs to."""

import os
import signal
from collections.abc import Callable
from types import FrameType


class StopRequest:
    """Ctrl-C or SIGTERM asks the work to stop at its next safe point; a second one stops it at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._process = os.getpid()
        # Taken out of the environment: it says nothing to processes that this one starts.
        self._parent = os.environ.pop("HARP_PARENT_PID", None)

    def __call__(self) -> bool:
        return self.asked or self._is_orphan()

    def _is_orphan(self) -> bool:
        """Whether the comparison that started this cell has died: it may be started again, and two would collide."""
        return self._parent is not None and os.getppid() != int(self._parent)

    def listen(self) -> None:
        """Take the signals over: only when work begins, so that parsing dies as any program does."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)

    def release(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker that decodes images: its parent sees to it
            return
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nStopping after this step; once more to stop at once.\n")
