"""Loads the HMAC keys that sign and verify tokens from a mounted folder: one file per key, named by key id."""

from __future__ import annotations

import re
from pathlib import Path

from spotjob.core.tokens import KEY_BYTES, KEY_ID_PATTERN, Keyring

HOW_TO_MAKE_ONE = "make one with: head -c 32 /dev/urandom | base64 > {directory}/k1"


class KeyringError(Exception):
    """The folder holds no usable keys; the message names it and says how to make one."""


def load_keyring(directory: Path) -> Keyring:
    """Every key in the folder, its bytes as they are. Raises KeyringError.

    Names that begin with a dot are skipped: a mounted Secret keeps its versions in `..data` and `..2026_...`.
    """
    if not directory.is_dir():
        raise KeyringError(_with_help("there is no key folder {directory}", directory))
    files = sorted(path for path in directory.iterdir() if not path.name.startswith(".") and path.is_file())
    if not files:
        raise KeyringError(_with_help("the key folder {directory} is empty", directory))
    return {path.name: _read_key(path) for path in files}


def _read_key(path: Path) -> bytes:
    if not re.fullmatch(KEY_ID_PATTERN, path.name):
        raise KeyringError(f"{path}: a key's file name may hold letters, digits, _ and - only, at most 64")
    try:
        key = path.read_bytes()
    except OSError as error:
        raise KeyringError(f"the key {path} cannot be read: {error.strerror}") from error
    if len(key) < KEY_BYTES:
        raise KeyringError(_with_help(f"{path} holds {len(key)} bytes, a key needs {KEY_BYTES}", path.parent))
    return key


def _with_help(problem: str, directory: Path) -> str:
    return f"{problem}; {HOW_TO_MAKE_ONE}".replace("{directory}", str(directory))
