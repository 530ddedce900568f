"""EC2's error codes, sorted by what helps against them, with the reason that a job shows meanwhile.

    a launch failed
    |- something is short: others may have it, time brings it back
    |  |- CAPACITY          the pool is empty                          InsufficientCapacity, pool left alone 3 min
    |  |- SUBNET_FULL       no address left in the zone's subnet       InsufficientCapacity, zone left alone 3 min
    |  |- UNSUPPORTED       this type does not work in this zone       InsufficientCapacity, pool left alone 1 h
    |  `- QUOTA             of the account; no other pool helps        QuotaExceeded
    |- ask again: nothing is wrong with the request
    |  |- THROTTLE          too many calls                             Throttled
    |  |- SERVER            EC2 failed. As the whole answer to a call: Ec2Unanswered, it may have had its effect
    |  |- TEMPLATE_MISSING  deleted, or not seen yet: recreate it      Launching
    |  |- TOKEN_REUSED      a bug of ours; the next launch has a fresh token
    |  `- LOGIN             the operator's own credentials: its trouble, not the job's
    |- REJECTED             EC2 says what is wrong with the request, or that it is denied: LaunchRejected
    `- anything else        an `Invalid...`, `Missing...` or `Malformed...` is REJECTED by EC2's own naming;
                            the rest waits as InsufficientCapacity does

A code that nobody knows waits, because the two mistakes do not weigh the same: a wait shows EC2's text, costs
nothing (no instance runs), and ends by capacityTimeoutSeconds or by a person; a verdict cannot be taken back.

Sources: EC2 API reference "Error codes for the Amazon EC2 API"; the sets of Karpenter and ParallelCluster.
"""

from __future__ import annotations

from spotjob.core.offerings import SUBNET_FULL, UNSUPPORTED
from spotjob.core.ports import Fault
from spotjob.core.reasons import Reason
from spotjob.core.states import Pool

CAPACITY = frozenset(
    {
        "InsufficientInstanceCapacity",
        "UnfulfillableCapacity",
        "InsufficientCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "ReservationCapacityExceeded",
        "SpotMaxPriceTooLow",
    }
)
QUOTA = frozenset(
    {
        "MaxSpotInstanceCountExceeded",
        "VcpuLimitExceeded",
        "InstanceLimitExceeded",
        "MaxFleetCountExceeded",
        "MaxTemplateLimitExceeded",
        "VolumeLimitExceeded",
        "MaxIOPSLimitExceeded",
        "ResourceCountExceeded",
        "ResourceLimitExceeded",
    }
)
THROTTLE = frozenset(
    {
        "RequestLimitExceeded",
        "EC2ThrottledException",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
        "SlowDown",
        "PriorRequestNotComplete",
    }
)
SERVER = frozenset(
    {"InternalError", "InternalFailure", "InternalServerError", "ServerInternal", "ServiceUnavailable", "Unavailable"}
)
TEMPLATE_MISSING = frozenset(
    {
        "InvalidLaunchTemplateName.NotFoundException",
        "InvalidLaunchTemplateId.NotFound",
        "InvalidLaunchTemplateId.NotFoundException",
        "InvalidLaunchTemplateId.VersionNotFound",
    }
)
TOKEN_REUSED = frozenset({"IdempotentParameterMismatch"})
LOGIN = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
    }
)
SERVICE_LINKED_ROLE = frozenset({"AuthFailure.ServiceLinkedRoleCreationNotPermitted"})
REJECTED = (
    frozenset(
        {
            "UnauthorizedOperation",
            "AuthFailure",
            "AccessDenied",
            "AccessDeniedException",
            "OperationNotPermitted",
            "PendingVerification",
            "OptInRequired",
            "Blocked",
            "UnsupportedOperation",
            "UnknownParameter",
            "UnknownVolumeType.Unsupported",
            "VPCIdNotSpecified",
            "ParameterNotFound",
            "ParameterVersionNotFound",
            "ValidationException",
        }
    )
    | SERVICE_LINKED_ROLE
)
TEMPLATE_EXISTS = frozenset({"InvalidLaunchTemplateName.AlreadyExistsException"})
INSTANCE_UNKNOWN = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})

FAMILIES_REJECTED = ("Invalid", "Missing", "Malformed")
LONGEST_TEXT = 700
"""Characters of EC2's text that are kept: a status message holds 1,024, a denial brings a long encoded blob."""
ROLE_HINT = "create the role once per account: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"


def fault_from(code: str, message: str, pool: Pool | None = None) -> Fault:
    """EC2's error with the reason that it shows."""
    text = message if len(message) <= LONGEST_TEXT else f"{message[:LONGEST_TEXT]}..."
    hint = f" ({ROLE_HINT})" if code in SERVICE_LINKED_ROLE else ""
    return Fault(code, text + hint, reason_for(code), pool)


def reason_for(code: str) -> Reason:
    """What a job shows for this code."""
    if code in CAPACITY | SUBNET_FULL | UNSUPPORTED:
        return Reason.INSUFFICIENT_CAPACITY
    if code in QUOTA:
        return Reason.QUOTA_EXCEEDED
    if code in THROTTLE:
        return Reason.THROTTLED
    if code in SERVER | TEMPLATE_MISSING | TOKEN_REUSED | LOGIN:
        return Reason.LAUNCHING
    if code in REJECTED or code.startswith(FAMILIES_REJECTED):
        return Reason.LAUNCH_REJECTED
    return Reason.INSUFFICIENT_CAPACITY
