"""The ECS simulator: a pure, clocked model of the calls that the Sequencer makes, and what it takes to run them."""

from spotjob.local.ecs.errors import EcsError
from spotjob.local.ecs.rules import Refusal, Rule, Script
from spotjob.local.ecs.simulator import ACTIONS, EcsSimulator
from spotjob.local.ecs.world import Timing

__all__ = ["ACTIONS", "EcsError", "EcsSimulator", "Refusal", "Rule", "Script", "Timing"]
