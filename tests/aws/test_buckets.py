from __future__ import annotations

from spotjob.aws.buckets import Bucket
from tests.aws.clock import ManualClock


async def test_a_burst_goes_through_at_once_and_the_rest_at_the_rate() -> None:
    clock = ManualClock()
    bucket = Bucket(clock, burst=3, per_second=2)
    for _ in range(5):
        await bucket.take()
    assert clock.slept == [0.5, 0.5]


async def test_the_bucket_fills_up_to_its_burst_and_no_further() -> None:
    clock = ManualClock()
    bucket = Bucket(clock, burst=2, per_second=1)
    await bucket.take(2)
    clock.advance(3600)
    await bucket.take(2)
    assert clock.slept == []
    await bucket.take()
    assert clock.slept == [1.0]


async def test_more_than_the_burst_is_a_debt_that_the_caller_sleeps_off() -> None:
    clock = ManualClock()
    await Bucket(clock, burst=10, per_second=5).take(20)
    assert clock.slept == [2.0]


async def test_after_a_throttle_the_next_caller_waits() -> None:
    clock = ManualClock()
    bucket = Bucket(clock, burst=10, per_second=5)
    bucket.drain()
    await bucket.take()
    assert clock.slept == [0.2]
