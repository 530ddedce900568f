"""The EC2 simulator: a pure, clocked model of the calls that SpotJob makes."""

from spotjob.local.ec2.errors import ApiError, ReplyLost
from spotjob.local.ec2.faults import Fault
from spotjob.local.ec2.pools import CapacityRule
from spotjob.local.ec2.simulator import ACTIONS, Reply, Simulator
from spotjob.local.ec2.world import ACCOUNT, Surroundings, Timing

__all__ = [
    "ACCOUNT",
    "ACTIONS",
    "ApiError",
    "CapacityRule",
    "Fault",
    "Reply",
    "ReplyLost",
    "Simulator",
    "Surroundings",
    "Timing",
]
