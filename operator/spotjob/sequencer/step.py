"""One step of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from spotjob.aws.run_task_model import FIXED, parameter_faults
from spotjob.core.sequence.model_faults import Fault, Path, invalid
from spotjob.core.sequence.spelling import shown, unknown
from spotjob.core.sequence.spot_spec import spec_faults
from spotjob.core.sequence.steps import Step, When
from spotjob.sequencer.nodes import Entries, Entry, Node, Scalar, data, is_null, locate, scalars
from spotjob.sequencer.problems import Findings, Place
from spotjob.sequencer.references import marked, references, result_of, wrong
from spotjob.sequencer.spot_job import Manifest, ReadFile, read_manifest

KEYS = tuple(name for name in Step.model_fields if name not in ("name", "when"))
"""Below the name of a step; `job` is a way to write `parameters`."""
JOB = "job"
ECS_ONLY = ("region", "success_exit_codes", "essential_only")
CHECKS: dict[str, Callable[[dict[str, Any]], list[Fault]]] = {"ecs_task": parameter_faults, "spot_job": spec_faults}


@dataclass(slots=True)
class StepReader:
    """Reads the steps of a file in turn, and knows the names of those before."""

    found: Findings
    read_file: ReadFile | None
    earlier: list[str] = field(default_factory=list)
    results_used: set[str] = field(default_factory=set)

    def read(self, node: Node, path: Path, when: When) -> Step | None:
        """The step, or None with the reasons among the findings."""
        entry = self._only_entry(node, path)
        if entry is None:
            return None
        path = (*path, entry.key)
        step = None
        if isinstance(entry.value, Entries):
            step = self._step(entry, entry.value, path, when)
        else:
            self._tell(entry.value, entry.at, path, "below its name a step has `type`, `parameters` and options")
        self.earlier.append(entry.key)
        return step

    def _only_entry(self, node: Node, path: Path) -> Entry | None:
        """A step is a mapping with one key, its name."""
        if not isinstance(node, Entries) or not node.entries:
            self._tell(node, node.at, path, "a step is a mapping of its name to its `type` and `parameters`")
            return None
        first, *others = node.entries
        for other in others:
            why = f"{shown(other.key)} stands beside the step {shown(first.key)}: "
            own = "indent it below the name" if other.key in (*KEYS, JOB) else "begin a step of its own with `- `"
            self.found.add(other.at, (*path, other.key), why + own)
        return first

    def _step(self, entry: Entry, body: Entries, path: Path, when: When) -> Step | None:
        self._known_keys(body, path)
        kind = data(body).get("type")
        self._required(entry, body, path, kind)
        self._own_rules(body, path, kind, when)
        self._references(body, path)
        body = marked(body)

        parameters = self._parameters(body, path, kind)
        options = {e.key: data(e.value) for e in body.entries if e.key in KEYS and not is_null(e.value)}
        made = {**options, "name": entry.key, "parameters": parameters}
        all_faults = invalid(Step, {"type": "ecs_task", **made, "parameters": {}})
        self._add(entry, body, path, ((() if at == ("name",) else at, message) for at, message in all_faults))
        return None if self.found.problems else Step.model_validate({**made, "when": when})

    def _known_keys(self, body: Entries, path: Path) -> None:
        for entry in body.entries:
            if entry.key not in (*KEYS, JOB):
                self.found.add(entry.at, (*path, entry.key), unknown(entry.key, (*KEYS, JOB)))

    def _required(self, entry: Entry, body: Entries, path: Path, kind: Any) -> None:
        if kind is None:
            self.found.add(entry.at, path, "`type` is missing: ecs_task or spot_job")
        if all((e := body.get(key)) is None or is_null(e.value) for key in ("parameters", JOB)):
            also = " (or `job`, the path of a manifest)" if kind == "spot_job" else ""
            self.found.add(entry.at, path, f"`parameters` is missing{also}")

    def _own_rules(self, body: Entries, path: Path, kind: Any, when: When) -> None:
        for key in ECS_ONLY if kind == "spot_job" else (JOB,):
            if entry := body.get(key):
                other = "ecs_task" if kind == "spot_job" else "spot_job"
                self.found.add(entry.at, (*path, key), f"is of type {other} only")
        if kind == "spot_job" and (job := body.get(JOB)) and body.get("parameters"):
            self.found.add(job.at, (*path, JOB), "takes the place of `parameters`; only one of them may be there")
        if when is When.FAILURE and (always := body.get("always")):
            self.found.add(
                always.at, (*path, "always"), "has no meaning in on_failure, which runs after a failure only"
            )

    # ---- parameters ----

    def _parameters(self, body: Entries, path: Path, kind: Any) -> dict[str, Any]:
        """What the step asks for; what is wrong with it goes to the findings."""
        entry = body.get("parameters")
        if entry is None or is_null(entry.value):
            return self._manifest(body, path) if kind == "spot_job" else {}
        path = (*path, "parameters")
        if not isinstance(entry.value, Entries):
            self._tell(entry.value, entry.at, path, "must be a mapping")
            return {}
        made: dict[str, Any] = data(entry.value)
        if isinstance(kind, str) and kind in CHECKS:
            self._add(entry, entry.value, path, CHECKS[kind](made))
        return made

    def _manifest(self, body: Entries, path: Path) -> dict[str, Any]:
        job = body.get(JOB)
        if job is None or is_null(job.value):
            return {}
        name = data(job.value)
        if not isinstance(name, str) or not name:
            manifest = Manifest(problems=("must be the path of a SpotJob manifest",))
        elif self.read_file is None:
            manifest = Manifest(problems=("cannot be read: this sequence is not a file with others beside it",))
        else:
            manifest = read_manifest(name, self.read_file)
        for problem in manifest.problems:
            self.found.add(job.at, (*path, JOB), problem)
        return manifest.spec

    def _references(self, body: Entries, path: Path) -> None:
        """References stand in parameters, name an earlier step, and leave alone what the Sequencer goes by."""
        for below, scalar in scalars(body):
            for reference in references(scalar) if scalar.known else ():
                why = wrong(reference, self.earlier)
                if below[0] != "parameters":
                    why = "a result can be used in `parameters` only"
                elif len(below) == 2 and below[1] in FIXED:
                    why = "a result cannot be used here: the Sequencer itself goes by this value"
                if why:
                    self.found.add(scalar.at, (*path, *below), why)
                if step := result_of(reference):
                    self.results_used.add(step)

    # ---- telling ----

    def _add(self, entry: Entry, node: Node, path: Path, faults: Iterable[Fault]) -> None:
        """Each fault at its key."""
        for below, message in faults:
            at, culprit = locate(entry.at, node, below)
            self._tell(culprit, at, (*path, *below), message)

    def _tell(self, culprit: Node, at: Place, path: Path, message: str) -> None:
        """What is not known yet is not judged."""
        if not isinstance(culprit, Scalar) or culprit.known:
            self.found.add(at, path, message)
