import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.images.streaming import in_batches, map_ahead


@given(st.lists(st.integers()), st.integers(1, 9))
def test_batches_are_consecutive_and_full(items: list[int], size: int) -> None:
    batches = list(in_batches(iter(items), size))
    assert [item for batch in batches for item in batch] == items
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(batches)


def test_a_batch_is_given_before_more_items_are_asked_for() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise AssertionError("a third item was asked for")

    assert next(in_batches(items(), 2)) == (1, 2)


class Inline(Executor):
    """Does the work at once and counts it."""

    submitted = 0

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        self.submitted += 1
        future: Future[Any] = Future()
        future.set_result(function(*args, **options))
        return future


@given(st.lists(st.integers(), max_size=30), st.integers(0, 8))
def test_map_ahead_keeps_the_order_and_its_distance(items: list[int], ahead: int) -> None:
    pool = Inline()
    results: list[str] = []
    for result in map_ahead(pool, str, items, ahead):
        assert len(results) < pool.submitted <= len(results) + 1 + ahead
        results.append(result)
    assert results == [str(item) for item in items]
    assert pool.submitted == len(items)


def test_results_come_in_order_also_when_the_first_takes_longest() -> None:
    later = threading.Event()

    def work(item: int) -> int:
        assert item > 0 or later.wait(10)
        later.set()
        return item * item

    with ThreadPoolExecutor(2) as pool:
        assert list(map_ahead(pool, work, range(9), 3)) == [item * item for item in range(9)]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_exception_surfaces_while_later_items_are_still_worked_on(kind: type[BaseException]) -> None:
    release = threading.Event()
    pool = ThreadPoolExecutor(2, "streaming-test")

    def work(item: int) -> int:
        if item == 1:
            raise kind("item 1")
        assert item == 0 or release.wait(10)
        return item

    results = map_ahead(pool, work, range(100), 4)
    try:
        assert next(results) == 0
        with pytest.raises(kind, match="item 1"):
            next(results)
        assert not release.is_set()
    finally:
        release.set()
        pool.shutdown(cancel_futures=True)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("streaming-test")]


def test_an_exception_of_the_items_surfaces() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="no more"):
        list(map_ahead(pool, str, items(), 3))
