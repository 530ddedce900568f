"""Token buckets below EC2's documented request limits, so that throttling is the exception.

EC2 counts each action of an account and region by itself (EC2 Developer Guide, "Request throttling"). We leave a
fifth of every limit to the account's other users.
"""

from __future__ import annotations

from spotjob.core.ports import Clock


class Bucket:
    """`burst` calls at once, then `per_second`. Callers are served in the order they came."""

    def __init__(self, clock: Clock, burst: float, per_second: float) -> None:
        self._clock, self._burst, self._rate = clock, burst, per_second
        self._tokens, self._at = burst, clock.monotonic()

    async def take(self, tokens: int = 1) -> None:
        """Wait for this many tokens. They are reserved at once: the bucket goes into debt, the caller sleeps it off."""
        self._refill()
        self._tokens -= tokens
        if self._tokens < 0:
            await self._clock.sleep(-self._tokens / self._rate)

    def drain(self) -> None:
        """EC2 has throttled a call: its own bucket is empty, so ours is too."""
        self._refill()
        self._tokens = min(self._tokens, 0)

    def _refill(self) -> None:
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class Buckets:
    """One bucket per action and region."""

    def __init__(self, clock: Clock) -> None:
        self.create_fleet = Bucket(clock, 40, 4)
        self.terminate = Bucket(clock, 80, 4)
        self.terminated_instances = Bucket(clock, 800, 16)
        """TerminateInstances is also limited by instances: 1,000, then 20 per second."""
        self.describe_instances = Bucket(clock, 80, 16)
        """With a filter or pagination, as all of ours."""
        self.create_template = Bucket(clock, 40, 4)
        self.delete_template = Bucket(clock, 40, 4)
        self.describe_templates = Bucket(clock, 80, 16)
        self.describe_spot_requests = Bucket(clock, 80, 16)
        self.describe_status = Bucket(clock, 80, 16)
        self.console = Bucket(clock, 80, 16)
