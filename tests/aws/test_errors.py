from __future__ import annotations

import pytest

from spotjob.aws import errors
from spotjob.aws.errors import fault_from, reason_for
from spotjob.core.offerings import SUBNET_FULL, UNSUPPORTED
from spotjob.core.ports import Fault
from spotjob.core.reasons import Reason
from spotjob.core.states import Pool

POOL = Pool("m6i.large", "us-east-1a")

SETS = {
    Reason.INSUFFICIENT_CAPACITY: errors.CAPACITY | SUBNET_FULL | UNSUPPORTED,
    Reason.QUOTA_EXCEEDED: errors.QUOTA,
    Reason.THROTTLED: errors.THROTTLE,
    Reason.LAUNCHING: errors.SERVER | errors.TEMPLATE_MISSING | errors.TOKEN_REUSED | errors.LOGIN,
    Reason.LAUNCH_REJECTED: errors.REJECTED,
}


@pytest.mark.parametrize("reason", SETS)
def test_every_named_code_shows_the_reason_of_its_set(reason: Reason) -> None:
    assert {reason_for(code) for code in SETS[reason]} == {reason}


def test_no_code_is_in_two_sets() -> None:
    assert sum(len(codes) for codes in SETS.values()) == len(frozenset().union(*SETS.values()))


@pytest.mark.parametrize(
    "code",
    [
        "InvalidAMIID.NotFound",
        "InvalidSubnetID.NotFound",
        "InvalidGroup.NotFound",
        "InvalidParameterValue",
        "InvalidParameterCombination",
        "InvalidFleetConfig",
        "InvalidUserData.Malformed",
        "MissingParameter",
        "MalformedQueryString",
    ],
)
def test_what_ec2_calls_invalid_is_rejected(code: str) -> None:
    assert reason_for(code) is Reason.LAUNCH_REJECTED


@pytest.mark.parametrize("code", ["", "SomethingNew", "NewKindOfShortage"])
def test_a_code_that_nobody_knows_waits(code: str) -> None:
    assert reason_for(code) is Reason.INSUFFICIENT_CAPACITY


@pytest.mark.parametrize("code", ["InvalidLaunchTemplateName.NotFoundException", "InvalidClientTokenId"])
def test_a_named_code_wins_over_its_family(code: str) -> None:
    assert reason_for(code) is Reason.LAUNCHING


def test_a_fault_keeps_ec2s_text_and_pool() -> None:
    fault = fault_from("InsufficientInstanceCapacity", "no capacity", POOL)
    assert fault == Fault("InsufficientInstanceCapacity", "no capacity", Reason.INSUFFICIENT_CAPACITY, POOL)


def test_a_denial_with_its_long_encoded_blob_still_fits_into_a_status_message() -> None:
    message = fault_from("UnauthorizedOperation", "You are not authorized. " + "x" * 5000).message
    assert message.startswith("You are not authorized. ")
    assert message.endswith("...")
    assert len(message) < 1000


def test_a_missing_service_linked_role_comes_with_the_command_that_makes_it() -> None:
    message = fault_from("AuthFailure.ServiceLinkedRoleCreationNotPermitted", "text").message
    assert "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com" in message
