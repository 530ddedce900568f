from __future__ import annotations

import pytest

from spotjob.identity import identity_problem


@pytest.mark.parametrize(
    "environ",
    [
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"},
        {"AWS_ENDPOINT_URL": "http://localhost:4566"},
        {"AWS_ENDPOINT_URL": "http://[::1]:4566"},
        {"AWS_ENDPOINT_URL": "https://ec2.amazonaws.com", "AWS_ENDPOINT_URL_EC2": "http://127.8.0.1"},
    ],
)
def test_launch_tokens_are_accepted_with_an_ec2_on_this_machine(environ: dict[str, str]) -> None:
    assert identity_problem("token", environ) is None


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"AWS_ENDPOINT_URL": ""},
        {"AWS_ENDPOINT_URL": "https://ec2.us-east-1.amazonaws.com"},
        {"AWS_ENDPOINT_URL": "http://localhost.example.com"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1@example.com/"},
        {"AWS_ENDPOINT_URL": "http://10.0.0.1:4566"},
        {"AWS_ENDPOINT_URL": "http://0.0.0.0:4566"},
        {"AWS_ENDPOINT_URL": "http://[::1"},
        {"AWS_ENDPOINT_URL": "127.0.0.1:4566"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1", "AWS_ENDPOINT_URL_EC2": "https://ec2.example"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True"},
    ],
)
def test_launch_tokens_are_refused_with_any_other_ec2(environ: dict[str, str]) -> None:
    problem = identity_problem("token", environ)
    assert problem is not None
    assert "loopback" in problem or "real" in problem


def test_a_password_in_the_endpoint_is_not_repeated() -> None:
    problem = identity_problem("token", {"AWS_ENDPOINT_URL": "http://user:hunter2@example.com"})
    assert problem is not None
    assert "hunter2" not in problem
