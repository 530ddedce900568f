"""The result on the serial console: found among everything else, believed only with its proof."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotjob.core.contract import RESULT_LINE, Report
from spotjob.core.handover import token_claims
from spotjob.core.lastwords import read
from spotjob.core.resources import Attempt, SpotJob
from spotjob.core.tokens import Keyring, Kind, sign
from tests.builders import NOW, running

OLD, NEW = b"an old key of at least 32 bytes.", b"a newer key of at least 32 bytes"
KEYRING = {"k1": OLD, "k2": NEW}
JOB = running()


def attempt_of(job: SpotJob) -> Attempt:
    assert job.current is not None
    return job.current


def a_line(
    result: str = "Exited 0 free",
    job: SpotJob = JOB,
    keyring: Keyring = KEYRING,
    kind: Kind = "agent",
    said: str | None = None,
) -> str:
    """The line of the job's agent. `said`: what stands there in place of what was proven."""
    attempt = attempt_of(job)
    words = f"{attempt.instance_id} {job.metadata.uid} {attempt.number} {result}"
    token = sign(keyring, token_claims(kind, job, attempt))
    proof = hmac.new(token.encode(), words.encode(), hashlib.sha256).hexdigest()
    return f"{RESULT_LINE} {said or words} {proof}"


def found(text: str, keyring: Keyring = KEYRING, job: SpotJob = JOB) -> Report | None:
    return read(text, job, attempt_of(job), keyring, NOW)


@pytest.mark.parametrize(
    ("result", "finished_as", "exit_code", "signalled"),
    [
        ("Exited 0 free", "Exited", 0, False),
        ("Exited 143 signalled", "Exited", 143, True),
        ("Exited - free", "Exited", None, False),
        ("HostRebooted - free", "HostRebooted", None, False),
        ("ImagePullFailed - signalled", "ImagePullFailed", None, True),
    ],
)
def test_the_agents_line_is_read_as_its_final_report(
    result: str, finished_as: str, exit_code: int | None, signalled: bool
) -> None:
    report = found(a_line(result))
    assert report is not None
    assert (report.kind, report.at, report.finished_as) == ("finished", NOW, finished_as)
    assert (report.exit_code, report.signalled) == (exit_code, signalled)


@pytest.mark.parametrize(
    "console",
    [
        "[   12.345678] cloud-init[812]: {}\r\n",
        "\x1b[0;32m{}\x1b[0m\r\n[  OK  ] Reached target Power-Off.\r\n",
        "half a line without an end{}",
        "\ufffd\ufffd\x00{}\n",
        "{}\n[  700.0] reboot: Power down\n",
        f"{RESULT_LINE} i-1 uid-of-night 1 Exi" + "\n{}\n",
        f"{RESULT_LINE} i-1 uid-of-night 1 Exited 1 free " + "0" * 64 + "\n{}\n" + f"{RESULT_LINE} \n{RESULT_LINE}",
    ],
)
def test_the_line_is_found_whatever_stands_around_it(console: str) -> None:
    assert found(console.format(a_line("Exited 7 free"))) is not None


def test_a_console_that_was_cut_in_the_line_tells_nothing() -> None:
    line = a_line()
    assert all(found(line[start:]) is None for start in range(1, len(line)))
    assert all(found(line[:end]) is None for end in range(len(line)))


def test_the_last_line_that_proves_itself_counts() -> None:
    text = "\n".join(
        [a_line("Exited 1 free"), a_line("Exited 0 free"), a_line("Exited 2 free", keyring={"k": b"x" * 32})]
    )
    report = found(text)
    assert report is not None
    assert report.exit_code == 0


def test_every_key_of_the_ring_proves_so_a_rotation_loses_no_result() -> None:
    line = a_line(keyring={"k1": OLD})
    assert found(line) is not None
    assert found(line, keyring={"k2": NEW}) is None


def test_the_container_cannot_forge_a_result_with_the_token_that_it_has() -> None:
    assert found(a_line("Exited 0 free", kind="container")) is None


def test_what_was_proven_cannot_be_made_to_say_something_else() -> None:
    assert found(a_line("Exited 1 free", said="i-1 uid-of-night 1 Exited 0 free")) is None


@pytest.mark.parametrize("other", [running("i-2"), running("i-1", name="day")])
def test_the_result_of_another_attempt_is_not_this_ones(other: SpotJob) -> None:
    assert found(a_line(job=other), job=other) is not None
    assert found(a_line(job=other)) is None


def test_a_proven_line_of_words_that_nobody_knows_is_passed_over() -> None:
    assert found(a_line("Exploded 0 free")) is None
    assert found(a_line("Exited 999 free")) is None


WORDS = [RESULT_LINE, "i-1", "uid-of-night", "1", "Exited", "0", "free", "a" * 64, "-", "\r\n", "\x1b[0m", "\u0663"]


@given(st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_no_console_raises_or_proves_anything_by_chance(text: str) -> None:
    assert found(text) is None
