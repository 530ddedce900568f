from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotjob.core.offerings import MOST_TYPES, Refused, Unavailable, admissible
from spotjob.core.ports import Fault, InstanceType, Place, Subnet
from spotjob.core.reasons import Reason
from spotjob.core.resources import SpotJobClassSpec
from spotjob.core.spec import SpotJobSpec
from spotjob.core.states import CapacityType, Pool

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
SPOT = CapacityType.SPOT


def a_type(name: str, vcpus: int = 2, memory_gib: float = 8, **more: Any) -> InstanceType:
    facts: dict[str, Any] = {
        "gpus": 0,
        "architectures": frozenset({"amd64"}),
        "current_generation": True,
        "spot": True,
        **more,
    }
    return InstanceType(name=name, vcpus=vcpus, memory_mib=int(memory_gib * 1024), **facts)


def a_place(*types: InstanceType, zones: str = "ab", not_offered: frozenset[tuple[str, str]] = frozenset()) -> Place:
    names = [f"us-east-1{zone}" for zone in zones]
    return Place(
        image_id="ami-1",
        subnets=tuple(Subnet(f"subnet-{zone}", zone) for zone in names),
        instance_types=types,
        offered=frozenset((t.name, zone) for t in types for zone in names) - not_offered,
    )


def a_class(**instance_types: tuple[str, ...]) -> SpotJobClassSpec:
    return SpotJobClassSpec.model_validate(
        {
            "region": "us-east-1",
            "subnets": {"ids": ["subnet-0a"]},
            "securityGroups": ["sg-0a"],
            "apiURL": "https://api.example.com",
            "instanceTypes": instance_types,
        }
    )


def a_job(architecture: str = "amd64", instance_types: tuple[str, ...] = (), **requests: Any) -> SpotJobSpec:
    wire = {
        "image": "busybox",
        "architecture": architecture,
        "instanceTypes": instance_types,
        "resources": {"requests": requests},
    }
    return SpotJobSpec.model_validate(wire)


def names(answer: tuple[Pool, ...] | Refused) -> list[str]:
    assert not isinstance(answer, Refused), answer.message
    return list(dict.fromkeys(pool.instance_type for pool in answer))


SMALL, MEDIUM, LARGE = a_type("m6i.large"), a_type("m6i.xlarge", 4, 16), a_type("m6i.2xlarge", 8, 32)
ARM, GPU = a_type("m7g.large", architectures=frozenset({"arm64"})), a_type("g5.xlarge", 4, 16, gpus=1)
OLD, METAL = a_type("m4.large", current_generation=False), a_type("c6i.metal", 128, 256, bare_metal=True)
EVERYTHING = a_place(LARGE, MEDIUM, SMALL, ARM, GPU, OLD, METAL)


def test_the_smallest_types_come_first_with_all_their_zones() -> None:
    assert admissible(a_job(), a_class(), a_place(MEDIUM, SMALL), SPOT) == (
        Pool("m6i.large", "us-east-1a"),
        Pool("m6i.large", "us-east-1b"),
        Pool("m6i.xlarge", "us-east-1a"),
        Pool("m6i.xlarge", "us-east-1b"),
    )


def test_an_on_demand_job_gets_on_demand_pools() -> None:
    (pool,) = admissible(a_job(), a_class(), a_place(SMALL, zones="a"), CapacityType.ON_DEMAND)  # type: ignore[misc]
    assert pool == Pool("m6i.large", "us-east-1a", CapacityType.ON_DEMAND)


@pytest.mark.parametrize(
    ("job", "job_class", "expected"),
    [
        (a_job(), a_class(), ["m6i.large", "m6i.xlarge", "m6i.2xlarge"]),
        (a_job(cpu="3"), a_class(), ["m6i.xlarge", "m6i.2xlarge"]),
        (a_job(cpu="2001m"), a_class(), ["m6i.xlarge", "m6i.2xlarge"]),
        (a_job(cpu=2), a_class(), ["m6i.large", "m6i.xlarge", "m6i.2xlarge"]),
        (a_job(memory="10Gi"), a_class(), ["m6i.xlarge", "m6i.2xlarge"]),
        (a_job(architecture="arm64"), a_class(), ["m7g.large"]),
        (a_job(**{"nvidia.com/gpu": 1}), a_class(), ["g5.xlarge"]),
        (a_job(instance_types=("g5.*",)), a_class(), ["g5.xlarge"]),
        (a_job(instance_types=("*.large",)), a_class(), ["m6i.large"]),
        (a_job(), a_class(allow=("m4.*",)), ["m4.large"]),
        (a_job(), a_class(exclude=("*.xlarge", "m6i.large")), ["m6i.2xlarge"]),
        (a_job(), a_class(allow=("*.metal", "m6i.large")), ["m6i.large"]),
    ],
)
def test_wishes_narrow_the_types_down(job: SpotJobSpec, job_class: SpotJobClassSpec, expected: list[str]) -> None:
    assert names(admissible(job, job_class, EVERYTHING, SPOT)) == expected


def test_all_but_the_star_stands_for_itself_in_a_pattern() -> None:
    place = a_place(a_type("m6i.large"), a_type("m6ixlarge"))
    assert names(admissible(a_job(instance_types=("m6i.large",)), a_class(), place, SPOT)) == ["m6i.large"]
    assert names(admissible(a_job(instance_types=("m6i?*",)), a_class(allow=("*",)), a_place(a_type("m6i?a")), SPOT))


def test_the_host_keeps_some_of_the_memory_for_itself() -> None:
    assert names(admissible(a_job(memory="8Gi"), a_class(), EVERYTHING, SPOT)) == ["m6i.xlarge", "m6i.2xlarge"]
    assert names(admissible(a_job(memory="7Gi"), a_class(), EVERYTHING, SPOT))[0] == "m6i.large"


def test_types_too_small_to_run_docker_are_left_out() -> None:
    assert names(admissible(a_job(), a_class(), a_place(a_type("t3.nano", 2, 0.5), SMALL), SPOT)) == ["m6i.large"]


def test_a_type_is_used_only_where_it_is_offered() -> None:
    place = a_place(SMALL, MEDIUM, not_offered=frozenset({("m6i.large", "us-east-1a")}))
    assert admissible(a_job(), a_class(), place, SPOT) == (
        Pool("m6i.large", "us-east-1b"),
        Pool("m6i.xlarge", "us-east-1a"),
        Pool("m6i.xlarge", "us-east-1b"),
    )


def test_a_launch_names_sixty_types_at_most_and_keeps_the_smallest() -> None:
    place = a_place(*(a_type(f"x{n}.large", vcpus=n) for n in range(100, 0, -1)))
    assert names(admissible(a_job(), a_class(), place, SPOT)) == [f"x{n}.large" for n in range(1, MOST_TYPES + 1)]


@given(st.permutations([SMALL, MEDIUM, LARGE, ARM, GPU, OLD, METAL]))
def test_the_order_in_which_ec2_lists_types_does_not_matter(types: list[InstanceType]) -> None:
    assert admissible(a_job(), a_class(), a_place(*types), SPOT) == admissible(a_job(), a_class(), EVERYTHING, SPOT)


NO_SPOT = replace(SMALL, spot=False)


@pytest.mark.parametrize(
    ("job", "job_class", "place", "message"),
    [
        (
            a_job(cpu=900),
            a_class(),
            EVERYTHING,
            "no instance type has 900 vcpus in amd64; the largest admissible has 8",
        ),
        (
            a_job(cpu=8, memory="900Gi"),
            a_class(),
            EVERYTHING,
            "no instance type has 900Gi of memory for the container in amd64; the largest admissible has 30310Mi",
        ),
        (
            a_job(**{"nvidia.com/gpu": 8}),
            a_class(),
            EVERYTHING,
            "no instance type has 8 nvidia.com/gpu in amd64; the largest admissible has 1",
        ),
        (
            a_job(),
            a_class(allow=("g5.*",)),
            EVERYTHING,
            "every admissible instance type has GPUs: request nvidia.com/gpu, or name instanceTypes",
        ),
        (
            a_job(instance_types=("p5.*", "p4d.*")),
            a_class(),
            EVERYTHING,
            "the class admits no instance type like p5.* or p4d.*",
        ),
        (a_job(architecture="arm64"), a_class(allow=("m6i.*",)), EVERYTHING, "no admissible instance type is arm64"),
        (a_job(), a_class(allow=("z9.*",)), EVERYTHING, "EC2 knows no instance type like z9.*"),
        (a_job(), a_class(), a_place(OLD), "EC2 knows no instance type of the current generation"),
        (
            a_job(),
            a_class(allow=("*.metal",)),
            EVERYTHING,
            "the class allows bare metal only, which is not supported",
        ),
        (
            a_job(),
            a_class(allow=("m6i.*",), exclude=("m*",)),
            EVERYTHING,
            "the class excludes every instance type that it allows (m*)",
        ),
        (a_job(), a_class(), a_place(NO_SPOT), "m6i.large cannot be had as spot instances"),
        (
            a_job(),
            a_class(),
            replace(a_place(SMALL, MEDIUM), offered=frozenset()),
            "EC2 does not offer m6i.large and m6i.xlarge in us-east-1a, us-east-1b",
        ),
    ],
)
def test_a_job_that_nothing_can_serve_is_told_which_wish_was_too_much(
    job: SpotJobSpec, job_class: SpotJobClassSpec, place: Place, message: str
) -> None:
    assert admissible(job, job_class, place, SPOT) == Refused(message)


def test_a_long_list_of_names_is_shortened_in_the_message() -> None:
    patterns = tuple(f"z{n}.*" for n in range(9))
    assert admissible(a_job(), a_class(allow=patterns), EVERYTHING, SPOT) == Refused(
        "EC2 knows no instance type like z0.*, z1.*, z2.* or 6 more"
    )


def test_a_type_without_spot_support_serves_on_demand_jobs() -> None:
    assert names(admissible(a_job(), a_class(), a_place(NO_SPOT), CapacityType.ON_DEMAND)) == ["m6i.large"]


# ---- the pool memory ----------------------------------------------------------------------------------------------

A, B, C = Pool("m6i.large", "us-east-1a"), Pool("m6i.large", "us-east-1b"), Pool("c6i.large", "us-east-1a")


def a_fault(pool: Pool | None, code: str = "InsufficientInstanceCapacity") -> Fault:
    return Fault(code, "text", Reason.INSUFFICIENT_CAPACITY, pool)


def test_a_pool_without_capacity_is_left_alone_for_three_minutes() -> None:
    memory = Unavailable().after([a_fault(A)], NOW)
    assert memory.without([A, B, C], NOW) == (B, C)
    assert memory.until(A, NOW) == NOW + timedelta(minutes=3)
    assert memory.without([A, B, C], NOW + timedelta(minutes=3)) == (A, B, C)


def test_a_pool_that_ec2_does_not_support_is_left_alone_for_an_hour() -> None:
    memory = Unavailable().after([a_fault(A, "Unsupported")], NOW)
    assert memory.without([A, B], NOW + timedelta(minutes=59)) == (B,)
    assert memory.without([A, B], NOW + timedelta(hours=1)) == (A, B)


def test_a_full_subnet_closes_its_whole_zone() -> None:
    memory = Unavailable().after([a_fault(A, "InsufficientFreeAddressesInSubnet")], NOW)
    assert memory.without([A, B, C], NOW) == (B,)


def test_on_demand_capacity_is_remembered_apart_from_spot() -> None:
    on_demand = replace(A, capacity_type=CapacityType.ON_DEMAND)
    assert Unavailable().after([a_fault(A)], NOW).without([A, on_demand], NOW) == (on_demand,)


def test_throttling_quota_and_faults_without_a_pool_teach_nothing_about_pools() -> None:
    faults = [
        Fault("RequestLimitExceeded", "text", Reason.THROTTLED, A),
        Fault("MaxSpotInstanceCountExceeded", "text", Reason.QUOTA_EXCEEDED, A),
        a_fault(None),
    ]
    assert Unavailable().after(faults, NOW) == Unavailable()


def test_a_reclaim_marks_its_pool() -> None:
    assert Unavailable().marked(A, NOW).without([A, B], NOW) == (B,)


def test_only_pools_that_ec2_supports_nowhere_are_hopeless() -> None:
    unsupported = Unavailable().after([a_fault(A, "Unsupported"), a_fault(B, "Unsupported")], NOW)
    assert unsupported.hopeless([A, B], NOW)
    assert not unsupported.hopeless([A, B, C], NOW)
    assert not Unavailable().after([a_fault(A), a_fault(B, "Unsupported")], NOW).hopeless([A, B], NOW)
    assert not unsupported.hopeless([A, B], NOW + timedelta(hours=1))


def test_lapsed_entries_are_forgotten() -> None:
    old = Unavailable().after([a_fault(A), a_fault(B, "Unsupported")], NOW)
    later = NOW + timedelta(hours=2)
    assert old.after([], later) == Unavailable()
    assert old.marked(C, later).short == {C: later + timedelta(minutes=3)}
