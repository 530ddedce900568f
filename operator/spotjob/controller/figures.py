"""What the operator tells Prometheus about itself, counted when it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from spotjob.controller.listener import RESULTS
from spotjob.controller.runtime import Runtime
from spotjob.core.resources import SpotJob
from spotjob.core.sequence.resources import JobSequence


class Figures(Collector):
    """Reads the runtime; register it with a prometheus_client registry."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        """In Prometheus' base units."""
        runtime = self._runtime
        yield GaugeMetricFamily("spotjob_leading", "1 while this process leads.", value=float(runtime.working))
        yield GaugeMetricFamily("spotjob_queue_depth", "Jobs that wait to be looked at.", value=runtime.waiting())
        yield GaugeMetricFamily(
            "spotjob_instances_alive", "Instances that may cost money now.", value=runtime.instances_alive()
        )
        yield _by_phase("spotjob_jobs", "SpotJobs by phase.", runtime.store.jobs())
        yield _by_phase("spotjob_jobsequences", "JobSequences by phase.", runtime.sequences())
        events = CounterMetricFamily(
            "spotjob_ec2_events", "Messages from the queue of EC2's events, by what became of them.", labels=["result"]
        )
        for result in RESULTS:
            events.add_metric([result], runtime.listener.counts[result])
        yield events


def _by_phase(name: str, what: str, resources: Iterable[SpotJob | JobSequence]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=["phase"])
    for phase, count in Counter(str(one.status.phase or "New") for one in resources).items():
        family.add_metric([phase], count)
    return family
