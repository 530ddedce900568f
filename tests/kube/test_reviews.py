from __future__ import annotations

from datetime import timedelta
from typing import Any

from spotjob.kube.reviews import REMEMBERED, Access, Reviews, User
from tests.api.world import Clock

ALICE = {"username": "alice", "uid": "u1", "groups": ["staff"], "extra": {"scopes": ["jobs"]}}


class Server:
    """Answers reviews; counts them by kind."""

    def __init__(self) -> None:
        self.tokens: dict[str, dict[str, Any]] = {"good": ALICE}
        self.allowed: set[tuple[str, str]] = set()
        self.asked: list[dict[str, Any]] = []

    async def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        body = options["body"]
        self.asked.append(body)
        if body["kind"] == "TokenReview":
            user = self.tokens.get(body["spec"]["token"])
            return {"status": {"authenticated": True, "user": user} if user else {"error": "no"}}
        attributes = body["spec"]["resourceAttributes"]
        return {"status": {"allowed": (attributes["verb"], attributes["namespace"]) in self.allowed}}


class World:
    def __init__(self, *audiences: str) -> None:
        self.server, self.clock = Server(), Clock()
        self.reviews = Reviews(self.server, self.clock, audiences)

    def later(self, seconds: float) -> None:
        self.clock.time += timedelta(seconds=seconds)


async def test_a_good_token_is_asked_about_once_in_30_seconds() -> None:
    world = World()
    first, second = await world.reviews.who("good"), await world.reviews.who("good")
    assert first == second == User("alice", "u1", ("staff",), {"scopes": ["jobs"]})
    assert len(world.server.asked) == 1
    world.later(31)
    await world.reviews.who("good")
    assert len(world.server.asked) == 2


async def test_a_revoked_token_is_noticed_after_30_seconds() -> None:
    world = World()
    await world.reviews.who("good")
    world.server.tokens.clear()
    world.later(31)
    assert await world.reviews.who("good") is None


async def test_a_bad_token_is_asked_about_once_in_2_seconds() -> None:
    world = World()
    for _ in range(3):
        assert await world.reviews.who("bad") is None
    assert len(world.server.asked) == 1
    world.server.tokens["bad"] = ALICE
    world.later(3)
    assert await world.reviews.who("bad") is not None


async def test_no_token_is_kept_in_memory() -> None:
    world = World()
    await world.reviews.who("good")
    kept = repr(vars(world.reviews._known)) + repr(vars(world.reviews._unknown))
    assert "good" not in kept


async def test_the_memory_is_bounded() -> None:
    world = World()
    for n in range(REMEMBERED + 50):
        await world.reviews.who(f"bad-{n}")
    assert len(world.reviews._unknown._answers) == REMEMBERED


async def test_only_the_wanted_audiences_are_asked_for() -> None:
    world = World("spotjob-api")
    await world.reviews.who("good")
    assert world.server.asked[0]["spec"] == {"token": "good", "audiences": ["spotjob-api"]}


async def test_a_right_is_asked_for_with_all_that_is_known_of_the_user() -> None:
    world = World()
    alice = await world.reviews.who("good")
    assert alice is not None
    await world.reviews.may(alice, Access("delete", "batch", "night"))
    assert world.server.asked[1]["spec"] == {
        "user": "alice",
        "uid": "u1",
        "groups": ["staff"],
        "extra": {"scopes": ["jobs"]},
        "resourceAttributes": {
            "group": "spotjob.dev",
            "resource": "spotjobs",
            "verb": "delete",
            "namespace": "batch",
            "name": "night",
        },
    }


async def test_a_yes_is_remembered_for_10_seconds_and_for_that_right_only() -> None:
    world = World()
    world.server.allowed.add(("list", "batch"))
    for _ in range(2):
        assert await world.reviews.may(User("alice"), Access("list", "batch"))
    assert len(world.server.asked) == 1
    assert not await world.reviews.may(User("alice"), Access("list", "other"))
    world.server.allowed.clear()
    world.later(11)
    assert not await world.reviews.may(User("alice"), Access("list", "batch"))


async def test_a_no_is_never_remembered() -> None:
    world = World()
    assert not await world.reviews.may(User("alice"), Access("list", "batch"))
    world.server.allowed.add(("list", "batch"))
    assert await world.reviews.may(User("alice"), Access("list", "batch"))


async def test_two_users_with_one_name_do_not_share_an_answer() -> None:
    world = World()
    world.server.allowed.add(("list", "batch"))
    assert await world.reviews.may(User("alice", extra={"scopes": ["a"]}), Access("list", "batch"))
    world.server.allowed.clear()
    assert not await world.reviews.may(User("alice", extra={"scopes": ["b"]}), Access("list", "batch"))
