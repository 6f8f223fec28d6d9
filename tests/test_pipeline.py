"""Two threads and a few items between them: in order, bounded, and neither waits for one that is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator

import pytest

from yolact.pipeline import Channel, reading_ahead, writing_behind


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """No thread is left, neither now nor later."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def count_to(end: int, taken: list[int] | None = None) -> Generator[int, None, None]:
    for number in range(end):
        if taken is not None:
            taken.append(number)
        yield number


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within five seconds."""
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def test_reading_ahead_keeps_order_and_its_bound() -> None:
    taken: list[int] = []
    with reading_ahead(count_to(100, taken), capacity=3) as numbers:
        assert eventually(lambda: len(taken) == 4), "three wait, and one has no place yet"
        time.sleep(0.02)
        assert len(taken) == 4
        assert list(numbers) == list(range(100))


def test_reading_ahead_raises_what_the_reader_raised() -> None:
    def broken() -> Generator[int, None, None]:
        yield 1
        raise KeyError("two")

    with pytest.raises(KeyError, match="two"), reading_ahead(broken(), capacity=1) as numbers:
        list(numbers)


def test_reading_ahead_ends_when_its_consumer_dies() -> None:
    closed = threading.Event()

    def endless() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    def consume() -> None:
        with reading_ahead(endless(), capacity=2) as numbers:
            assert next(iter(numbers)) == 1
            raise RuntimeError("consumer")

    with pytest.raises(RuntimeError, match="consumer"):
        consume()
    assert closed.is_set(), "what the reader holds open is closed"


def test_a_reader_that_is_stuck_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolact.pipeline._PATIENCE", 0.01)
    written = threading.Event()

    def pipe() -> Generator[int, None, None]:
        yield 1
        written.wait()

    def consume() -> None:
        with reading_ahead(pipe(), capacity=2) as numbers:
            assert next(iter(numbers)) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    written.set()
    assert eventually(lambda: "reading ahead" not in {thread.name for thread in threading.enumerate()})


def test_the_newest_pushes_out_the_oldest() -> None:
    channel: Channel[int] = Channel(2, newest=True)
    for number in range(5):
        channel.put(number)
    channel.finish()
    assert list(channel) == [3, 4]
    assert channel.dropped == 3


def test_writing_behind_writes_all_before_it_is_left() -> None:
    written: list[int] = []

    def write(numbers: Iterator[int]) -> None:
        for number in numbers:
            time.sleep(0.001)
            written.append(number)

    with writing_behind(write, capacity=2) as numbers:
        for number in range(20):
            numbers.put(number)
    assert written == list(range(20))


def test_a_writer_that_dies_ends_a_producer_that_waits() -> None:
    put: list[int] = []

    def write(numbers: Iterator[int]) -> None:
        next(numbers)
        assert eventually(lambda: len(put) == 3)  # the channel is full, and the producer waits
        raise OSError("disk full")

    def produce() -> None:
        with writing_behind(write, capacity=2) as numbers:
            for number in count_to(1000):
                numbers.put(number)
                put.append(number)

    with pytest.raises(OSError, match="disk full"):
        produce()
    assert len(put) == 3


def test_a_writer_that_dies_at_the_end_is_told() -> None:
    def write(numbers: Iterator[int]) -> None:
        assert list(numbers) == [1]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), writing_behind(write, capacity=2) as numbers:
        numbers.put(1)


def test_a_producer_that_dies_is_told_to_the_writer() -> None:
    told: list[BaseException] = []

    def write(numbers: Iterator[int]) -> None:
        try:
            for _ in numbers:
                pass
        except BaseException as error:
            told.append(error)
            raise

    def produce() -> None:
        with writing_behind(write, capacity=2) as numbers:
            numbers.put(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        produce()
    assert [type(error) for error in told] == [KeyboardInterrupt]
