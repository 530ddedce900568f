"""What the operator tells Prometheus."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from spotjob.controller.figures import Figures
from spotjob.controller.probes import Probes
from spotjob.controller.store import Store
from spotjob.core.sequence.resources import SequencePhase
from spotjob.local.probes import free_ports
from tests.builders import a_job, running


@pytest.fixture
def figures() -> Figures:
    store = Store()
    for job in (a_job(name="new"), running()):
        store.put(job)
    listener = SimpleNamespace(counts=Counter(interruption=2, broken=1))
    sequences = [SimpleNamespace(status=SimpleNamespace(phase=phase)) for phase in (None, SequencePhase.RUNNING)]
    runtime: Any = SimpleNamespace(
        store=store,
        working=True,
        waiting=lambda: 3,
        instances_alive=lambda: 1,
        listener=listener,
        sequences=lambda: sequences,
    )
    return Figures(runtime)


async def test_the_operator_serves_health_readiness_and_figures(figures: Figures):
    [port] = free_ports(1)
    ready: list[bool] = []
    async with (
        Probes(port, lambda: bool(ready), figures),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/readyz")).status_code == 503
        ready.append(True)
        assert (await http.get("/readyz")).status_code == 200
        told = (await http.get("/metrics")).text
    assert "spotjob_leading 1.0" in told
    assert "spotjob_queue_depth 3.0" in told
    assert "spotjob_instances_alive 1.0" in told
    assert 'spotjob_jobs{phase="New"} 1.0' in told
    assert 'spotjob_jobs{phase="Running"} 1.0' in told
    assert 'spotjob_jobsequences{phase="New"} 1.0' in told
    assert 'spotjob_jobsequences{phase="Running"} 1.0' in told
    assert 'spotjob_ec2_events_total{result="interruption"} 2.0' in told
    assert 'spotjob_ec2_events_total{result="broken"} 1.0' in told
    assert 'spotjob_ec2_events_total{result="foreign"} 0.0' in told
