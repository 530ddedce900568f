from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotjob.core.tokens import Claims, TokenError, launch_token, sign, verify

OLD, NEW = {"k1": b"1" * 32}, {"k2": b"2" * 32}
AGENT = Claims(kind="agent", uid="u-1", namespace="batch", name="night", attempt=2, instance="i-1")


def with_body(token: str, body: bytes) -> str:
    """The token with other claims, and the signature of the first ones."""
    version, key_id, _, signature = token.split(".")
    return ".".join([version, key_id, base64.urlsafe_b64encode(body).rstrip(b"=").decode(), signature])


def test_a_signed_token_says_what_was_signed() -> None:
    assert verify(OLD, sign(OLD, AGENT), "agent") == AGENT


def test_the_same_claims_give_the_same_token() -> None:
    assert sign(OLD, AGENT) == sign(OLD, AGENT)


def test_a_launch_token_names_the_cluster_only() -> None:
    claims = verify(OLD, launch_token(OLD, "uid-of-kube-system"), "launch")
    assert (claims.uid, claims.name, claims.instance, claims.attempt) == ("uid-of-kube-system", "", "", 0)


def test_the_greatest_key_signs_and_all_keys_verify() -> None:
    both = OLD | NEW
    assert sign(both, AGENT) == sign(NEW, AGENT)
    assert verify(both, sign(OLD, AGENT), "agent") == AGENT


def test_a_key_that_was_taken_out_verifies_no_more() -> None:
    with pytest.raises(TokenError):
        verify(NEW, sign(OLD, AGENT), "agent")


def test_a_key_does_not_answer_to_the_id_of_another() -> None:
    with pytest.raises(TokenError):
        verify({"k1": b"2" * 32}, sign(OLD, AGENT), "agent")


@pytest.mark.parametrize("kind", ["launch", "container"])
def test_a_token_serves_its_own_kind_only(kind: str) -> None:
    with pytest.raises(TokenError):
        verify(OLD, sign(OLD, AGENT), kind)  # type: ignore[arg-type]


def test_other_claims_under_an_old_signature_are_refused() -> None:
    forged = AGENT.model_copy(update={"attempt": 3}).model_dump_json(by_alias=True).encode()
    with pytest.raises(TokenError):
        verify(OLD, with_body(sign(OLD, AGENT), forged), "agent")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "...",
        "v1",
        "v1.k1",
        "v1.k1.e30",
        "v1.k1.e30.",
        "v2." + sign(OLD, AGENT)[3:],
        sign(OLD, AGENT) + "=",
        sign(OLD, AGENT) + ".x",
        sign(OLD, AGENT)[:-1],
        " " + sign(OLD, AGENT),
        "\ud800.\udfff.\ud800.é",
        "x" * 100_000,
    ],
)
def test_a_text_that_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        verify(OLD, text, "agent")


@given(st.text())
def test_no_text_at_all_makes_verify_fail_otherwise(text: str) -> None:
    with pytest.raises(TokenError):
        verify(OLD, text, "agent")


@given(st.integers(0, len(sign(OLD, AGENT)) - 1), st.characters())
def test_a_token_with_one_other_character_is_refused(position: int, character: str) -> None:
    good = sign(OLD, AGENT)
    changed = good[:position] + character + good[position + 1 :]
    if changed == good:
        return
    with pytest.raises(TokenError):
        verify(OLD, changed, "agent")


@given(st.binary(max_size=64))
def test_signed_nonsense_is_a_token_error_too(body: bytes) -> None:
    """Claims that a later version of this program signed with the same key."""
    signed = "v1.k1." + base64.urlsafe_b64encode(body).rstrip(b"=").decode()
    signature = base64.urlsafe_b64encode(hmac.digest(OLD["k1"], signed.encode(), hashlib.sha256)).rstrip(b"=").decode()
    with contextlib.suppress(TokenError):
        verify(OLD, f"{signed}.{signature}", "agent")


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=253), st.integers(0, 2**31))
def test_any_name_and_attempt_survive(name: str, attempt: int) -> None:
    claims = Claims(kind="container", uid="u", namespace="n", name=name, attempt=attempt, instance="i-1")
    assert verify(OLD, sign(OLD, claims), "container") == claims
