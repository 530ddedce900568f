"""What has been heard about instances besides their state: notices, advice, failing status checks.

In memory, of this leader only. Sources tell the same thing more than once (the agent, the queue, the listing of Spot
requests): the first one counts, the others are no news.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

NOTICE = timedelta(minutes=2)
"""From EC2's word to the end of the instance, where the word does not say when (aws-facts 3.1)."""


@dataclass(frozen=True, slots=True)
class Signs:
    """About one instance."""

    reclaim_at: datetime | None = None
    """About when EC2 takes it back, as EC2 said."""
    advised_at: datetime | None = None
    """When EC2 recommended to leave it, or announced its maintenance."""
    checked: bool = False
    """Its status checks are known; until a new leader has asked for them, nothing follows from their silence."""
    impaired_since: datetime | None = None
    """Since when its status checks have failed, by our own clock."""


NO_SIGNS = Signs()


class SignBook:
    """Signs by instance id. Each method answers whether it was news."""

    def __init__(self) -> None:
        self._signs: dict[str, Signs] = {}

    def of(self, instance_id: str) -> Signs:
        return self._signs.get(instance_id, NO_SIGNS)

    def reclaim(self, instance_id: str, at: datetime) -> bool:
        """EC2 takes the instance back at about this time."""
        known = self.of(instance_id)
        if known.reclaim_at is not None:
            return False
        self._signs[instance_id] = replace(known, reclaim_at=at)
        return True

    def advise(self, instance_id: str, at: datetime) -> bool:
        """EC2 recommends to leave the instance."""
        known = self.of(instance_id)
        if known.advised_at is not None:
            return False
        self._signs[instance_id] = replace(known, advised_at=at)
        return True

    def impaired(self, candidates: Collection[str], failing: Collection[str], now: datetime) -> list[str]:
        """The status checks of `failing` fail, those of the other candidates do not; returns whose word is news."""
        news = []
        for instance_id in candidates:
            known = self.of(instance_id)
            since = (known.impaired_since or now) if instance_id in failing else None
            if not known.checked or since != known.impaired_since:
                self._signs[instance_id] = replace(known, checked=True, impaired_since=since)
                news.append(instance_id)
        return news

    def keep(self, instance_ids: Collection[str]) -> None:
        """Forget all others."""
        for instance_id in self._signs.keys() - set(instance_ids):
            del self._signs[instance_id]
