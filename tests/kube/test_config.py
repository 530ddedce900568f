from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from spotjob.kube.config import ConfigError, KubeConfig, from_kubeconfig, load_config


def a_kubeconfig(tmp_path: Path, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> Path:
    document = {
        "current-context": "here",
        "contexts": [
            {"name": "there", "context": {"cluster": "nowhere"}},
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "jobs"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(document))
    return path


def in_a_pod(tmp_path: Path) -> Path:
    account = tmp_path / "serviceaccount"
    account.mkdir()
    for name, text in {"token": "first\n", "ca.crt": "PEM", "namespace": "spotjob-system\n"}.items():
        (account / name).write_text(text)
    return account


def test_the_current_context_is_used(tmp_path: Path) -> None:
    config = from_kubeconfig(a_kubeconfig(tmp_path, user={"token": "t"}))
    assert (config.server, config.bearer(), config.namespace) == ("https://127.0.0.1:6443", "t", "jobs")


def test_certificates_come_as_data_or_as_files_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "client.pem").write_bytes(b"certificate")
    user = {"client-certificate": "client.pem", "client-key-data": base64.b64encode(b"key").decode()}
    authority = {"certificate-authority-data": base64.b64encode(b"ca").decode()}
    config = from_kubeconfig(a_kubeconfig(tmp_path, authority, user))
    assert (config.ca, config.client_certificate, config.client_key) == (b"ca", b"certificate", b"key")
    assert config.bearer() is None


def test_a_token_file_is_read_again_each_time(tmp_path: Path) -> None:
    config = from_kubeconfig(a_kubeconfig(tmp_path, user={"tokenFile": "token", "token": "old"}))
    (tmp_path / "token").write_text("first\n")
    assert config.bearer() == "first"
    (tmp_path / "token").write_text("second\n")
    assert config.bearer() == "second"


def test_no_secret_shows_when_a_config_is_printed() -> None:
    shown = repr(KubeConfig("https://x", token="hunter2", client_key=b"hunter3"))
    assert "hunter" not in shown


def test_kubeconfig_wins_over_the_pods_own_account(tmp_path: Path) -> None:
    environ = {"KUBECONFIG": str(a_kubeconfig(tmp_path)), "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert load_config(environ, in_a_pod(tmp_path)).server == "https://127.0.0.1:6443"


@pytest.mark.parametrize(
    ("host", "server"), [("10.0.0.1", "https://10.0.0.1:8443"), ("fd00::1", "https://[fd00::1]:8443")]
)
def test_in_a_pod_its_service_account_is_used(tmp_path: Path, host: str, server: str) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "8443", "HOME": str(tmp_path)}
    config = load_config(environ, in_a_pod(tmp_path))
    assert (config.server, config.bearer(), config.ca, config.namespace) == (server, "first", b"PEM", "spotjob-system")


def test_the_home_directory_comes_last(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    a_kubeconfig(tmp_path / ".kube")
    assert load_config({"HOME": str(tmp_path)}, tmp_path / "none").namespace == "jobs"


def test_without_any_configuration_the_ways_to_give_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set KUBECONFIG"):
        load_config({"HOME": str(tmp_path)}, tmp_path / "none")


@pytest.mark.parametrize(
    ("cluster", "user", "word"),
    [
        ({}, {"exec": {"command": "aws"}}, "exec"),
        ({"insecure-skip-tls-verify": True}, {}, "insecure-skip-tls-verify"),
        ({"proxy-url": "http://p"}, {}, "proxy-url"),
        ({}, {"client-certificate-data": "no base64!"}, "config"),
        ({}, {"client-key": "missing.pem"}, "missing.pem"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        from_kubeconfig(a_kubeconfig(tmp_path, cluster, user))


@pytest.mark.parametrize("text", ["", "[]", "{", "current-context: gone"])
def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken").write_text(text)
    with pytest.raises(ConfigError, match="broken"):
        from_kubeconfig(tmp_path / "broken")


def test_plain_http_needs_no_certificates() -> None:
    assert KubeConfig("http://127.0.0.1:8080").ssl_context() is None
