"""The agent talks to an API behind TLS, and only to the right one."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from spotjob.agent import agent
from tests.agent.world import LAUNCH_TOKEN, World


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1 that signs itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "spotjob tests")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    with path.open("ab") as file:
        file.write(signed.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def secure_world(certificate: Path) -> Iterator[World]:
    world = World()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    # The handshake happens in the thread that serves the connection.
    world.socket = context.wrap_socket(world.socket, server_side=True, do_handshake_on_connect=False)
    world.start()
    yield world
    world.close()


def test_the_api_is_trusted_by_the_class_bundle_only(
    secure_world: World, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "API", secure_world.url.replace("http:", "https:"))
    with pytest.raises(ssl.SSLCertVerificationError):
        agent.api("GET", "/v1/instances/i-1/assignment", LAUNCH_TOKEN, timeout=60)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert agent.api("GET", "/v1/instances/i-1/assignment", LAUNCH_TOKEN, timeout=60) is None
