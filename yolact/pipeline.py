"""Threads that hand items on to each other, a few at a time: one reads ahead, one writes behind.

Whatever ends one side ends the other: an error on either is raised on both, and nobody waits for a thread that is gone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

# A reader in the middle of an item is waited for so long; one that waits for a pipe or a camera would never come back.
_PATIENCE = 2.0  # seconds


class Stopped(Exception):
    """Raised to the thread that gives, when nobody takes any more."""


class Channel(Generic[T]):
    """A bounded queue from one thread to another.

    Args:
        capacity: so many items wait at most.
        newest: an item that finds no place pushes out the oldest, and is not kept waiting itself.
    """

    def __init__(self, capacity: int, *, newest: bool = False) -> None:
        self._items: deque[T] = deque()
        self._capacity, self._newest = capacity, newest
        self._changed = threading.Condition()
        self._finished = False
        self._error: BaseException | None = None
        self.dropped = 0  # items that were pushed out

    def put(self, item: T) -> None:
        """Give an item, as soon as there is a place for it; raises what the other side failed with."""
        with self._changed:
            while len(self._items) >= self._capacity and not self._error:
                if self._newest:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            if self._error:
                raise self._error
            self._items.append(item)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Take the items until there will be no more; raises what the other side failed with."""
        while True:
            with self._changed:
                while not (self._items or self._finished or self._error):
                    self._changed.wait()
                if self._error:
                    raise self._error
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item

    def finish(self) -> None:
        """There are no more items than those that wait."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """End both sides at once, with the first error there was."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def check(self) -> None:
        """Raise what either side failed with."""
        if self._error:
            raise self._error


@contextmanager
def reading_ahead(items: Generator[T, None, None], capacity: int, *, newest: bool = False) -> Iterator[Channel[T]]:
    """Iterate in a thread: what it has got, in order; leaving the context ends the thread.

    One that is stuck, as in a pipe that nobody writes to, is left to end with the process.
    """
    channel: Channel[T] = Channel(capacity, newest=newest)

    def read() -> None:
        try:
            with closing(items):
                for item in items:
                    channel.put(item)
            channel.finish()
        except BaseException as error:  # raised where the items are taken
            channel.fail(error)

    thread = threading.Thread(target=read, name="reading ahead", daemon=True)
    thread.start()
    try:
        yield channel
    finally:
        channel.fail(Stopped())
        thread.join(_PATIENCE)


@contextmanager
def writing_behind(write: Callable[[Iterator[T]], None], capacity: int) -> Iterator[Channel[T]]:
    """Call `write` in a thread on what is put; leaving the context waits for it, and raises what it raised.

    Left by an error, the context raises it to `write` too, where it takes its next item: what it holds open can then be
    given up.
    """
    channel: Channel[T] = Channel(capacity)

    def work() -> None:
        try:
            write(iter(channel))
        except BaseException as error:  # raised where the items are given
            channel.fail(error)

    thread = threading.Thread(target=work, name="writing behind", daemon=True)
    thread.start()
    try:
        yield channel
        channel.finish()
    except BaseException as error:
        channel.fail(error)
        raise
    finally:
        thread.join()
    channel.check()
