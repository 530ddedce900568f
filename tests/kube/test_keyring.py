from __future__ import annotations

from pathlib import Path

import pytest

from spotjob.core.tokens import Claims, sign, verify
from spotjob.keyring import KeyringError, load_keyring


def test_each_file_is_a_key_with_its_bytes_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "k1").write_bytes(b"\n" + b"1" * 31)
    (tmp_path / "k2").write_bytes(b"2" * 40)
    assert load_keyring(tmp_path) == {"k1": b"\n" + b"1" * 31, "k2": b"2" * 40}


def test_a_mounted_secret_is_read_through_its_links(tmp_path: Path) -> None:
    """Kubernetes mounts `k1 -> ..data/k1`, `..data -> ..2026_11_22`."""
    version = tmp_path / "..2026_11_22"
    version.mkdir()
    (version / "k1").write_bytes(b"1" * 32)
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "k1").symlink_to("..data/k1")
    assert load_keyring(tmp_path) == {"k1": b"1" * 32}


def test_two_processes_with_the_same_folder_understand_each_other(tmp_path: Path) -> None:
    (tmp_path / "k1").write_bytes(b"1" * 32)
    claims = Claims(kind="launch", uid="u")
    assert verify(load_keyring(tmp_path), sign(load_keyring(tmp_path), claims), "launch") == claims


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_keys_is_named_with_the_way_to_make_one(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "keys"
    if exists:
        folder.mkdir()
    with pytest.raises(KeyringError, match=rf"{folder}.*head -c 32 /dev/urandom"):
        load_keyring(folder)


def test_a_short_key_is_refused_by_name_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "k1").write_bytes(b"hunter2")
    with pytest.raises(KeyringError, match="k1 holds 7 bytes, a key needs 32") as caught:
        load_keyring(tmp_path)
    assert "hunter2" not in str(caught.value)


def test_a_file_name_that_is_no_key_id_is_refused(tmp_path: Path) -> None:
    (tmp_path / "k.1").write_bytes(b"1" * 32)
    with pytest.raises(KeyringError, match="letters, digits"):
        load_keyring(tmp_path)


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """As when a pod's user has no right to the mounted file; root, who may run this test, fails to read only this."""
    (tmp_path / "k1").symlink_to("/proc/self/mem")
    with pytest.raises(KeyringError, match="k1 cannot be read: Input/output error"):
        load_keyring(tmp_path)
