"""The parameters of an ecs_task step: a RunTask request in snake_case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spotjob.aws import run_task_model
from spotjob.sequencer.checking import Fault

TOKEN = "client_token"  # noqa: S105


def parameter_faults(parameters: Mapping[str, Any]) -> list[Fault]:
    """Everything that RunTask would refuse, as far as its model tells, and what the Sequencer sets itself."""
    own: list[Fault] = [((TOKEN,), "is set by the Sequencer, a new one for each try")] if TOKEN in parameters else []
    asked = {key: value for key, value in parameters.items() if key != TOKEN}
    return own + [(problem.path, problem.message) for problem in run_task_model.problems(asked)]
