"""How a step ended whose SpotJob has finished."""

from __future__ import annotations

import pytest

from spotjob.core.reasons import Phase, Reason
from spotjob.core.resources import SpotJob
from spotjob.core.sequence.endings import End, of_job
from tests.builders import a_job


def finished(phase: Phase, reason: Reason, exit_code: int | None, message: str = "said") -> SpotJob:
    job = a_job()
    status = job.status.model_copy(
        update={"phase": phase, "reason": reason, "exit_code": exit_code, "message": message}
    )
    return job.model_copy(update={"status": status})


@pytest.mark.parametrize("phase", [Phase.FINISHED_OK, Phase.TERMINATED_OK])
def test_a_spotjob_that_succeeded_is_good_whatever_its_exit_code(phase):
    for exit_code in (0, 3, None):
        verdict = of_job(finished(phase, Reason.CONTAINER_SUCCEEDED, exit_code))
        assert (verdict.end, verdict.reason, verdict.message) == (End.GOOD, "", "")
        assert [(c.name, c.exit_code) for c in verdict.containers] == [("spotjob", exit_code)]


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.phase is Phase.FINISHED_NOK])
def test_a_spotjob_that_failed_has_failed_and_is_not_repeated_when_deleted_or_lost(reason):
    end = End.FINAL if reason in (Reason.CANCELLED, Reason.RESULT_LOST) else End.FAILED
    for phase in (Phase.FINISHED_NOK, Phase.TERMINATED_NOK):
        verdict = of_job(finished(phase, reason, 137))
        assert (verdict.end, verdict.reason, verdict.message) == (end, reason.value, "SpotJob night: said")
        assert [(c.name, c.exit_code, c.reason) for c in verdict.containers] == [("spotjob", 137, reason.value)]
