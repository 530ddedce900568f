"""The test image and the registry that serves it, as their bytes; pulls by real engines are tests/agent."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotjob.local import images
from spotjob.local.images import Image, digest_of
from spotjob.local.registry import LEVERS, LOGIN, Registry, answer


@pytest.fixture(scope="module")
def image() -> Image:
    return images.test_image()


@pytest.fixture
def registry(image: Image, tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(image, state=tmp_path)
    registry.start()
    yield registry
    registry.close()


def test_equal_hosts_make_equal_images(image: Image) -> None:
    assert images.test_image() == image


def test_every_digest_is_that_of_its_content(image: Image) -> None:
    assert all(digest == digest_of(blob) for digest, blob in image.blobs.items())


def test_the_config_names_the_unpacked_layer(image: Image) -> None:
    manifest = json.loads(image.manifest)
    config = json.loads(image.blobs[manifest["config"]["digest"]])
    (layer,) = manifest["layers"]
    assert config["rootfs"]["diff_ids"] == [digest_of(gzip.decompress(image.blobs[layer["digest"]]))]


def test_the_layer_has_a_shell_that_is_busybox(image: Image) -> None:
    (layer,) = json.loads(image.manifest)["layers"]
    with tarfile.open(fileobj=io.BytesIO(image.blobs[layer["digest"]])) as tar:
        assert tar.getmember("bin/sh").linkname == "busybox"
        assert tar.getmember("tmp").mode == 0o1777
        assert {"bin/wget", "bin/env", "bin/sleep", "etc/passwd"} <= set(tar.getnames())


def test_a_program_that_needs_a_loader_is_not_static() -> None:
    assert images.is_static(images.find_busybox().read_bytes())
    assert not images.is_static(Path("/bin/bash").read_bytes())
    assert not images.is_static(b"#!/bin/sh\n")


def test_a_host_without_static_busybox_is_told_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "is_static", lambda program: False)
    with pytest.raises(images.NoBusybox, match="busybox-static"):
        images.test_image()


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/missing/manifests/1", 404, "NAME_UNKNOWN"),
        ("/v2/nobody/manifests/1", 404, "NAME_UNKNOWN"),
        ("/v2/spotjob-test/manifests/2", 404, "MANIFEST_UNKNOWN"),
        ("/v2/spotjob-test/blobs/sha256:00", 404, "BLOB_UNKNOWN"),
        ("/v2/denied/manifests/1", 403, "DENIED"),
        ("/v2/limited/manifests/1", 429, "TOOMANYREQUESTS"),
        ("/elsewhere", 404, "NAME_INVALID"),
    ],
)
def test_errors_have_the_codes_of_the_specification(image: Image, path: str, status: int, code: str) -> None:
    given = answer(image, path)
    assert given.status == status
    assert json.loads(given.body)["errors"][0]["code"] == code


def test_a_broken_repository_answers_500(image: Image) -> None:
    assert answer(image, "/v2/broken/manifests/1") == LEVERS["broken"]
    assert LEVERS["broken"].status == 500


def test_a_manifest_is_served_by_tag_and_by_digest(image: Image) -> None:
    by_tag = answer(image, "/v2/spotjob-test/manifests/1")
    assert by_tag.body == image.manifest
    assert answer(image, f"/v2/spotjob-test/manifests/{image.digest}") == by_tag


def test_it_listens_on_loopback_answers_head_and_logs(registry: Registry, tmp_path: Path) -> None:
    connection = http.client.HTTPConnection(registry.host, timeout=60)
    connection.request("HEAD", "/v2/spotjob-test/manifests/1")
    answered = connection.getresponse()
    assert (answered.status, answered.read()) == (200, b"")
    assert answered.headers["Docker-Content-Digest"] == registry.image.digest
    connection.close()
    assert "HEAD /v2/spotjob-test/manifests/1" in (tmp_path / "registry.log").read_text()


def test_a_private_registry_wants_its_login(image: Image) -> None:
    registry = Registry(image, private=True)
    registry.start()
    connection = http.client.HTTPConnection(registry.host, timeout=60)
    connection.request("GET", "/v2/")
    refused = connection.getresponse()
    assert (refused.status, LOGIN[1].encode() in refused.read()) == (401, False)
    assert refused.headers["WWW-Authenticate"].startswith("Basic ")
    connection.close()
    registry.close()
