"""Order, laziness and errors of work that is spread over threads."""

import threading
import time

import pytest

from recipes.parts.ordered import ordered_map


def test_results_come_in_order_though_later_ones_are_ready_first():
    def work(number):
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    assert list(ordered_map(work, range(50), threads=4)) == [number * number for number in range(50)]


def test_several_threads_work_at_once():
    meeting = threading.Barrier(3, timeout=10)
    assert len(list(ordered_map(lambda _: meeting.wait(), range(3), threads=3))) == 3


def test_items_are_taken_only_as_fast_as_results_are_used():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = ordered_map(lambda number: number, items(), threads=2)
    assert next(results) == 0
    assert len(taken) <= 6
    results.close()


def test_an_error_is_raised_in_its_place():
    def work(number):
        if number == 3:
            raise ValueError("three")
        return number

    results = ordered_map(work, range(100), threads=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_nothing_to_do():
    assert list(ordered_map(str, [])) == []
