"""CreateFleet: allocation, partial fulfilment, refusals, idempotency."""

from __future__ import annotations

import base64

import pytest

from spotjob.core.states import CapacityType, Pool
from spotjob.local.ec2 import ApiError, CapacityRule, Simulator, Surroundings
from tests.local.ec2.builders import (
    ZONES,
    a_fleet,
    a_simulator,
    a_template,
    described,
    error_codes,
    ids,
    later,
    launch,
    on_demand,
    spot_request,
    tags,
)

THREE = ("m6i.large", "m6a.large", "c6i.large")


def spot(instance_type: str, zone: str = "us-east-1a") -> Pool:
    return Pool(instance_type, zone)


def refusal(ec2: Simulator, request: dict[str, object]) -> str:
    with pytest.raises(ApiError) as caught:
        ec2.call("CreateFleet", request)
    return caught.value.code


def test_instances_come_grouped_by_pool() -> None:
    ec2 = a_simulator()
    answer = ec2.call("CreateFleet", a_fleet(3))
    (group,) = answer["Instances"]
    assert len(group["InstanceIds"]) == 3
    assert group["InstanceType"] == "m6i.large"
    assert group["AvailabilityZone"] == "us-east-1a"
    assert group["SubnetId"] == "subnet-a"
    assert group["Lifecycle"] == "spot"
    assert group["LaunchTemplateAndOverrides"]["Overrides"]["InstanceType"] == "m6i.large"
    assert answer["Errors"] == []


def test_an_empty_pool_is_named_and_the_others_serve() -> None:
    ec2 = a_simulator()
    ec2.set_capacity(CapacityRule("m6i.large", count=0))
    answer = ec2.call("CreateFleet", a_fleet(4, types=THREE))
    assert len(ids(answer)) == 4
    assert error_codes(answer) == ["InsufficientInstanceCapacity"]
    assert answer["Errors"][0]["LaunchTemplateAndOverrides"]["Overrides"]["InstanceType"] == "m6i.large"


def test_all_pools_empty_still_answers_without_an_exception() -> None:
    ec2 = a_simulator()
    ec2.set_capacity(CapacityRule(count=0))
    answer = ec2.call("CreateFleet", a_fleet(4, types=THREE))
    assert answer["Instances"] == []
    assert error_codes(answer) == ["InsufficientInstanceCapacity"] * 3


def test_a_shallow_pool_fulfils_in_part() -> None:
    ec2 = a_simulator()
    ec2.set_capacity(CapacityRule(count=2))
    answer = ec2.call("CreateFleet", a_fleet(5))
    assert len(ids(answer)) == 2
    assert error_codes(answer) == ["InsufficientInstanceCapacity"]


def test_the_error_code_of_an_empty_pool_can_be_chosen() -> None:
    ec2 = a_simulator()
    ec2.set_capacity(CapacityRule(count=0, code="UnfulfillableCapacity"))
    assert error_codes(ec2.call("CreateFleet", a_fleet())) == ["UnfulfillableCapacity"]


def test_the_newest_capacity_rule_wins() -> None:
    ec2 = a_simulator()
    ec2.set_capacity(CapacityRule("m6i.large", "us-east-1a", "spot", 1))
    ec2.set_capacity(CapacityRule(count=0))
    assert not ids(ec2.call("CreateFleet", a_fleet()))
    ec2.set_capacity(CapacityRule())
    assert ids(ec2.call("CreateFleet", a_fleet()))


def test_a_capacity_rule_for_spot_leaves_on_demand_alone() -> None:
    ec2 = a_simulator()
    ec2.set_capacity(CapacityRule(capacity_type="spot", count=0))
    assert not ids(ec2.call("CreateFleet", a_fleet()))
    assert ids(ec2.call("CreateFleet", on_demand(a_fleet())))


def test_a_terminated_instance_frees_its_place_and_a_reclaimed_one_does_not() -> None:
    ec2 = a_simulator()
    ec2.set_capacity(CapacityRule(count=2))
    first, second = launch(ec2, 2)
    ec2.call("TerminateInstances", {"InstanceIds": [first]})
    ec2.reclaim(second)
    assert len(ids(ec2.call("CreateFleet", a_fleet(2)))) == 1


@pytest.mark.parametrize(
    ("strategy", "chosen"),
    [
        ("lowest-price", "c6i.large"),
        ("price-capacity-optimized", "m6a.large"),
        ("capacity-optimized", "m6i.large"),
    ],
)
def test_each_strategy_picks_its_pool(strategy: str, chosen: str) -> None:
    ec2 = a_simulator()
    for kind, capacity, price in (("m6i.large", 100, 0.09), ("m6a.large", 10, 0.05), ("c6i.large", 2, 0.01)):
        ec2.set_capacity(CapacityRule(kind, count=capacity))
        ec2.set_price(spot(kind), price)
    answer = ec2.call("CreateFleet", a_fleet(5, types=THREE, strategy=strategy))
    assert answer["Instances"][0]["InstanceType"] == chosen


def test_on_demand_instances_have_no_lifecycle_and_no_spot_request() -> None:
    ec2 = a_simulator()
    (instance_id,) = ids(ec2.call("CreateFleet", on_demand(a_fleet())))
    raw = described(ec2, instance_id)
    assert "InstanceLifecycle" not in raw
    assert "SpotInstanceRequestId" not in raw


def test_a_price_limit_below_the_price_is_an_error_of_its_pool() -> None:
    ec2 = a_simulator()
    ec2.set_price(spot("m6i.large"), 0.05)
    assert error_codes(ec2.call("CreateFleet", a_fleet(MaxPrice="0.04"))) == ["SpotMaxPriceTooLow"]


def test_the_spot_quota_counts_vcpus() -> None:
    ec2 = a_simulator()
    ec2.set_vcpu_quota(CapacityType.SPOT, 5)
    answer = ec2.call("CreateFleet", a_fleet(3))
    assert len(ids(answer)) == 2
    assert error_codes(answer) == ["MaxSpotInstanceCountExceeded"]
    assert ids(ec2.call("CreateFleet", on_demand(a_fleet())))


# ---- what the instances carry


def test_tags_of_template_and_request_are_merged_with_those_of_ec2() -> None:
    ec2 = a_simulator()
    answer = ec2.call("CreateFleet", a_fleet(tags={"job": "one", "from": "request"}))
    found = tags(described(ec2, ids(answer)[0]))
    assert found["job"] == "one"
    assert found["from"] == "request"
    assert found["aws:ec2:fleet-id"] == answer["FleetId"]
    assert found["aws:ec2launchtemplate:version"] == "1"


def test_the_spot_request_has_the_template_s_tags_for_it() -> None:
    ec2 = a_simulator()
    (instance_id,) = launch(ec2)
    request = spot_request(ec2, instance_id)
    assert tags(request) == {"kind": "request"}
    assert request["SpotInstanceRequestId"] == described(ec2, instance_id)["SpotInstanceRequestId"]
    assert (request["State"], request["Status"]["Code"], request["Type"]) == ("active", "fulfilled", "one-time")


def test_overrides_replace_image_and_volumes() -> None:
    ec2 = a_simulator()
    volume = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 50}}]
    (instance_id,) = launch(ec2, ImageId="ami-other", BlockDeviceMappings=volume)
    assert described(ec2, instance_id)["ImageId"] == "ami-other"
    assert ec2.instance(instance_id).data["BlockDeviceMappings"] == volume


# ---- what is refused as a whole


def test_the_same_pool_twice_is_refused() -> None:
    assert refusal(a_simulator(), a_fleet(types=("m6i.large", "m6i.large"))) == "InvalidFleetConfig"


def test_two_subnets_of_one_zone_are_refused() -> None:
    request = a_fleet(types=("m6i.large", "m6a.large"))
    request["LaunchTemplateConfigs"][0]["Overrides"][1]["SubnetId"] = "subnet-other"
    assert refusal(a_simulator(), request) == "InvalidFleetConfig"


def test_a_missing_launch_template_is_refused() -> None:
    assert refusal(a_simulator(), a_fleet(template="gone")) == "InvalidLaunchTemplateName.NotFoundException"


@pytest.mark.parametrize("kind", ["request", "maintain"])
def test_only_instant_fleets_are_simulated(kind: str) -> None:
    assert refusal(a_simulator(), a_fleet() | {"Type": kind}) == "UnsupportedOperation"


def test_an_option_that_is_not_simulated_is_refused_and_not_ignored() -> None:
    request = a_fleet()
    request["SpotOptions"]["MinTargetCapacity"] = 1
    assert refusal(a_simulator(), request) == "UnsupportedOperation"


def test_a_refused_fleet_launches_nothing() -> None:
    ec2 = a_simulator()
    refusal(ec2, a_fleet(types=("m6i.large", "m6i.large")))
    assert ec2.instances() == []


# ---- what each pool refuses for itself


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"ImageId": "ami-unknown"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "debian"}, "InvalidAMIID.Malformed"),
        ({"SecurityGroupIds": ["sg-unknown"]}, "InvalidGroup.NotFound"),
        ({"UserData": base64.b64encode(b"x" * 16385).decode()}, "InvalidUserData.Malformed"),
        ({"UserData": "not base64"}, "InvalidUserData.Malformed"),
    ],
)
def test_a_mistake_in_the_template_surfaces_at_launch(data: dict[str, object], code: str) -> None:
    around = Surroundings(subnets=ZONES, images={"ami-1"}, security_groups={"sg-1"})
    ec2 = a_simulator(surroundings=around)
    ec2.call("CreateLaunchTemplate", a_template("flawed", **data))
    answer = ec2.call("CreateFleet", a_fleet(template="flawed"))
    assert (ids(answer), error_codes(answer)) == ([], [code])


def test_an_unknown_subnet_surfaces_at_launch() -> None:
    ec2 = a_simulator(surroundings=Surroundings(subnets=ZONES))
    answer = ec2.call("CreateFleet", a_fleet(SubnetId="subnet-unknown"))
    assert error_codes(answer) == ["InvalidSubnetID.NotFound"]


def test_the_subnet_decides_the_zone() -> None:
    ec2 = a_simulator(surroundings=Surroundings(subnets=ZONES))
    request = a_fleet()
    del request["LaunchTemplateConfigs"][0]["Overrides"][0]["AvailabilityZone"]
    request["LaunchTemplateConfigs"][0]["Overrides"][0]["SubnetId"] = "subnet-c"
    assert ec2.call("CreateFleet", request)["Instances"][0]["AvailabilityZone"] == "us-east-1c"


# ---- idempotency


def test_a_repeated_client_token_launches_once() -> None:
    ec2 = a_simulator()
    first = ec2.call("CreateFleet", a_fleet(2, token="t"))
    later(ec2, 5)
    assert ec2.call("CreateFleet", a_fleet(2, token="t")) == first
    assert len(ec2.instances()) == 2
    assert ec2.calls["CreateFleet"] == 2


def test_a_repeated_client_token_gets_the_old_answer_even_when_its_instances_are_dead() -> None:
    ec2 = a_simulator()
    first = ids(ec2.call("CreateFleet", a_fleet(token="t")))
    ec2.call("TerminateInstances", {"InstanceIds": first})
    assert ids(ec2.call("CreateFleet", a_fleet(token="t"))) == first


def test_a_client_token_with_other_parameters_is_refused() -> None:
    ec2 = a_simulator()
    launch(ec2, 2, token="t")
    assert refusal(ec2, a_fleet(3, token="t")) == "IdempotentParameterMismatch"


def test_equal_seeds_give_equal_ids() -> None:
    def answers(seed: int) -> object:
        return a_simulator(seed=seed).call("CreateFleet", a_fleet(3))

    assert answers(7) == answers(7)
    assert answers(7) != answers(8)
