"""User data: its exact text, its size, and what may not get into it.

The golden file holds the text with the agent in clear, because gzip's bytes differ between Python versions. After an
intended change: `SPOTJOB_WRITE_GOLDEN=1 pytest tests/core/test_userdata.py`, and read the diff.
"""

from __future__ import annotations

import ast
import base64
import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spotjob.agent import agent
from spotjob.core.userdata import MAX_BYTES, render

GOLDEN = Path(__file__).parent / "golden" / "user-data.sh"
AGENT = Path(agent.__file__ or "").read_text()
PEM = "-----BEGIN CERTIFICATE-----\nTUlJQg==\n-----END CERTIFICATE-----\n"
SMALL_AGENT = 'print("the agent")\n'


def unpacked(user_data: str) -> str:
    """The same text with the agent in clear."""
    packed = re.compile(
        r"(?<=base64 -d <<'EOF' \| gzip -d >\"\$root/opt/spotjob/agent.py\"\n).*?(?=\nEOF\n)", re.DOTALL
    )
    return packed.sub(lambda found: gzip.decompress(base64.b64decode(found[0])).decode(), user_data)


def whole() -> str:
    """The real agent, with everything that a class can add."""
    return render(AGENT, "https://api.example.com:8443/spotjob", 300, "v1.key-1.e30.c2lnbmF0dXJl", PEM)


def test_the_text_is_the_golden_one() -> None:
    text = unpacked(render(SMALL_AGENT, "https://api.example.com:8443", 300, "token-1", PEM))
    if os.environ.get("SPOTJOB_WRITE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def arrived() -> str:
    """The agent as the instance has it."""
    found = re.search(r"opt/spotjob/agent\.py\"\n(.*?)\nEOF\n", unpacked(whole()), re.DOTALL)
    assert found is not None
    return found[1]


def statements(source: str) -> list[str]:
    """What a program does, each with its line; a docstring does nothing."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.end_lineno = node.end_col_offset = 0
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
        if isinstance(node, ast.stmt):
            node.end_lineno = node.end_col_offset = 0
    return [f"{getattr(node, 'lineno', 0)}: {ast.dump(node)}" for node in ast.walk(tree)]


def test_the_agent_arrives_without_its_comments_and_otherwise_unchanged() -> None:
    assert statements(arrived()) == statements(AGENT)
    assert "#" not in re.sub(r'"[^"\n]*"', "", arrived())


def test_equal_arguments_make_equal_text() -> None:
    assert whole() == whole()


def test_shellcheck_has_nothing_to_say() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    checked = subprocess.run([shellcheck, "-"], input=whole(), text=True, capture_output=True, check=False)
    assert checked.stdout == ""
    assert checked.returncode == 0


def test_bash_reads_it() -> None:
    subprocess.run(["bash", "-n"], input=whole(), text=True, check=True)


def test_there_is_room_for_a_certificate_of_two_kilobytes() -> None:
    size = len(render(AGENT, "https://api.example.com:8443", 300, "t" * 200).encode())
    print(f"user data: {size} of {MAX_BYTES} bytes without caBundle")
    assert size + 2048 <= MAX_BYTES


def test_text_that_is_too_large_is_refused_with_its_size() -> None:
    bundle = "-----BEGIN CERTIFICATE-----\n" + "QUJD\n" * 4000 + "-----END CERTIFICATE-----"
    with pytest.raises(ValueError, match=r"user data has \d{5} bytes, 20\d{3} of them caBundle, and EC2 takes 16384"):
        render(AGENT, "https://api.example.com", 300, "", bundle)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com",
        "https://example.com/$(id)",
        "https://example.com/`id`",
        "https://example.com/'",
        'https://example.com/"',
        "https://example.com/\nEOF\nid",
        "https://example.com/\\",
        "",
    ],
)
def test_a_url_that_a_shell_could_take_for_more_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="apiURL"):
        render(SMALL_AGENT, url, 300)


def test_a_token_that_a_shell_could_take_for_more_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="launch token") as refused:
        render(SMALL_AGENT, "https://example.com", 300, "secret$(id)")
    assert "secret" not in str(refused.value)


def test_only_certificates_pass_as_a_bundle() -> None:
    with pytest.raises(ValueError, match="caBundle"):
        render(SMALL_AGENT, "https://example.com", 300, "", PEM + "EOF\nid; true\n")


def test_a_mark_in_a_value_stays_what_it_is() -> None:
    assert "SPOTJOB_API_URL=https://example.com/@AGENT@\n" in render(SMALL_AGENT, "https://example.com/@AGENT@", 300)


def test_without_a_bundle_the_system_says_whom_to_trust() -> None:
    assert "SSL_CERT_FILE" not in render(SMALL_AGENT, "https://example.com", 300)


def test_a_host_that_shuts_down_stops_the_agent_before_anything_that_stops_containers() -> None:
    """So nobody reports the 143 of the host's own shutdown: systemd stops units in the reverse order of their start."""
    unit = whole().partition('spotjob-agent.service" <<EOF\n')[2].partition("\nEOF\n")[0].splitlines()
    assert "docker.service" in next(line for line in unit if line.startswith("After=")).split("=")[1].split()
    assert not [line for line in unit if line.startswith(("KillMode=", "SendSIGKILL=", "DefaultDependencies="))]
