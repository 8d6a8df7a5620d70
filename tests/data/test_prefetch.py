"""Reading ahead in a thread: order, errors in their place, bounds, and no thread left."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from slamfeat.data.prefetch import prefetch


def threads() -> list[str]:
    """Names of the threads that prefetching has begun and not ended."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("slamfeat-prefetch")]


class Source:
    """Counts up to `stop`, then ends, or raises where it was told to; remembers who asked and whether it was closed."""

    def __init__(self, stop: int, error: BaseException | None = None) -> None:
        self.stop, self.error = stop, error
        self.made = 0
        self.closed = False
        self.makers: set[str] = set()
        self.grew = threading.Condition()

    def __iter__(self) -> Iterator[int]:
        try:
            for number in range(self.stop):
                with self.grew:
                    self.made += 1
                    self.makers.add(threading.current_thread().name)
                    self.grew.notify_all()
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True

    def wait_for(self, made: int) -> None:
        """Until that many were made."""
        with self.grew:
            assert self.grew.wait_for(lambda: self.made >= made, timeout=30)


@pytest.mark.parametrize("ahead", [1, 2, 50])
def test_all_items_in_order_by_one_other_thread(ahead: int) -> None:
    source = Source(20)
    with prefetch(source, ahead) as items:
        assert list(items) == list(range(20))
    assert len(source.makers) == 1 and threading.current_thread().name not in source.makers
    assert source.closed and threads() == []


def test_no_more_than_asked_for_is_made_ahead() -> None:
    source = Source(1000)
    with prefetch(source, 3) as items:
        for number in items:
            source.wait_for(number + 3)
            assert source.made <= number + 1 + 3
            if number == 10:
                break
    assert source.closed and source.made <= 14 and threads() == []


def test_an_error_comes_as_itself_after_the_items_before_it() -> None:
    error = ValueError("the eighth")
    seen: list[int] = []
    with pytest.raises(ValueError) as caught, prefetch(Source(8, error), 4) as items:
        for item in items:
            seen.append(item)  # noqa: PERF402 - what came before the error counts
    assert caught.value is error and seen == list(range(8)) and threads() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("the user's")])
def test_leaving_by_an_error_ends_the_thread(error: BaseException) -> None:
    source = Source(1000)
    with pytest.raises(type(error)) as caught, prefetch(source) as items:
        next(items)
        raise error
    assert caught.value is error and source.closed and threads() == []


def test_stages_can_be_chained_and_end_together() -> None:
    source = Source(1000)
    with prefetch(source) as numbers, prefetch(2 * number for number in numbers) as doubled:
        assert [next(doubled) for _ in range(5)] == [0, 2, 4, 6, 8]
    assert source.closed and threads() == []
    with pytest.raises(ValueError), prefetch(Source(3, ValueError())) as numbers, prefetch(map(str, numbers)) as words:
        assert [next(words) for _ in range(3)] == ["0", "1", "2"]
        next(words)
    assert threads() == []


def test_plain_iterators_and_nothing_at_all() -> None:
    with prefetch(["a", "b"]) as items:
        assert list(items) == ["a", "b"]
    with prefetch(range(0)) as nothing:
        assert list(nothing) == []
