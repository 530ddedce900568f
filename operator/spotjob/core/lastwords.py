"""The result that an agent writes to its serial console before it reports it: what is left when the API was away.

    SPOTJOB-RESULT <instance> <uid> <attempt> <finished as> <exit code or -> <signalled or free> <hmac in hex>

The HMAC-SHA256 is keyed with the attempt's agent token and covers the words between, joined by single spaces.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime

from pydantic import ValidationError

from spotjob.core.contract import RESULT_LINE, Report
from spotjob.core.handover import token_claims
from spotjob.core.resources import Attempt, SpotJob
from spotjob.core.tokens import Keyring, sign

_LINE = re.compile(
    rf"{RESULT_LINE} (\S+) (\S+) (\d{{1,9}}) (\w{{1,32}}) (-|\d{{1,3}}) (signalled|free) ([0-9a-f]{{64}})",
    re.ASCII,
)


def read(text: str, job: SpotJob, attempt: Attempt, keyring: Keyring, at: datetime) -> Report | None:
    """The final report of this attempt in a console's text; None when none stands there. Pure.

    `at`: the time that the report gets, as the line has none. Whatever else stands on the console is passed over.
    """
    tokens = [sign({key_id: key}, token_claims("agent", job, attempt)) for key_id, key in keyring.items()]
    for found in reversed(list(_LINE.finditer(text))):
        *words, proof = found.groups()
        if words[:3] == [attempt.instance_id, job.metadata.uid, str(attempt.number)] and _proven(words, proof, tokens):
            return _report(words, at)
    return None


def _proven(words: list[str], proof: str, tokens: list[str]) -> bool:
    said = " ".join(words).encode()
    proofs = [hmac.digest(token.encode(), said, hashlib.sha256).hex() for token in tokens]
    return any([hmac.compare_digest(proof, known) for known in proofs])


def _report(words: list[str], at: datetime) -> Report | None:
    *_, finished_as, code, signalled = words
    said = {"kind": "finished", "at": at, "finishedAs": finished_as, "signalled": signalled == "signalled"}
    try:
        return Report.model_validate(said | ({} if code == "-" else {"exitCode": int(code)}))
    except ValidationError:  # of another version of the agent
        return None
