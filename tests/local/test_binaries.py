from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
from pathlib import Path

import pytest
from rich.console import Console

from spotjob.local import binaries, provision
from spotjob.local.progress import Progress

CACHE = Path("/cache")
ALL = set(binaries.NAMES)


def located(there: set[str], *, assets: str = "", path: str = "", old: tuple[str, ...] = ()) -> dict[str, str]:
    """What `locate` finds when exactly these files are there."""
    environ = {"KUBEBUILDER_ASSETS": assets, "PATH": path}
    found = binaries.locate(environ, CACHE, lambda p: str(p) in there, lambda _, p: str(p) not in old)
    return {name: str(program) for name, program in found.items()}


def test_nothing_is_found_where_nothing_is() -> None:
    assert located(set(), assets="/assets", path="/bin:/usr/bin") == {}


def test_the_assets_folder_comes_before_the_cache_and_the_cache_before_the_path() -> None:
    there = {"/assets/etcd", "/cache/etcd", "/bin/etcd", "/cache/kubectl", "/bin/kubectl", "/bin/kube-apiserver"}
    assert located(there, assets="/assets", path="/bin") == {
        "etcd": "/assets/etcd",
        "kubectl": "/cache/kubectl",
        "kube-apiserver": "/bin/kube-apiserver",
    }


def test_an_old_program_on_the_path_is_passed_over_for_a_newer_one_behind_it() -> None:
    there = {"/bin/kubectl", "/usr/bin/kubectl"}
    assert located(there, path="/bin:/usr/bin", old=("/bin/kubectl",)) == {"kubectl": "/usr/bin/kubectl"}


def test_the_envtest_archive_lacks_only_the_controller_manager() -> None:
    assert binaries.missing(ALL - {"kube-controller-manager"}) == ("kube-controller-manager",)


def test_nothing_is_missing_when_all_are_found() -> None:
    assert binaries.missing(ALL) == ()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Kubernetes v1.36.3", (1, 36)),
        ("etcd Version: 3.4.23\nGo Version: go1.19.8", (3, 4)),
        ("Client Version: v1.32.4-dispatcher", (1, 32)),
        ("no number", None),
    ],
)
def test_the_version_is_read_from_what_a_program_says(text: str, version: tuple[int, int] | None) -> None:
    assert binaries.version_in(text) == version


def test_the_cache_follows_xdg_and_names_version_and_system() -> None:
    assert binaries.cache_folder({"XDG_CACHE_HOME": "/x"}, "linux-arm64") == Path(
        f"/x/spotjob/control-plane-{binaries.KUBERNETES_VERSION}-linux-arm64"
    )
    assert binaries.cache_folder({"HOME": "/users/me"}, "linux-amd64").is_relative_to("/users/me/.cache/spotjob")


def test_the_version_that_is_stamped_is_the_version_that_is_built() -> None:
    go_mod = (Path(provision.__file__).parent / "controlplane" / "go.mod").read_text()
    assert re.search(r"k8s.io/kubernetes (v\S+)", go_mod)[1] == binaries.KUBERNETES_VERSION  # type: ignore[index]


def test_the_build_is_reproducible_and_stamps_the_version_that_kubectl_parses() -> None:
    command = provision.build_command(Path("/go"), "kubectl", Path("/out"))
    assert command[:4] == ["/go", "build", "-mod=readonly", "-trimpath"]
    assert "-X k8s.io/component-base/version.gitMinor=36" in command[4]
    assert command[5:] == ["-o", "/out", "k8s.io/kubernetes/cmd/kubectl"]


def test_go_says_its_version() -> None:
    assert provision.go_version("go version go1.26.6 linux/amd64") == (1, 26)
    assert provision.go_version("command not found") is None


def test_the_archive_gives_exactly_the_programs_that_are_wanted(tmp_path: Path) -> None:
    archive, digest = an_archive(tmp_path)
    provision.unpack(archive, digest, ["etcd"], cache := tmp_path / "cache")
    assert [path.name for path in cache.iterdir()] == ["etcd"]
    assert (cache / "etcd").read_bytes() == b"etcd program"
    assert binaries.is_program(cache / "etcd")


def test_an_archive_with_another_checksum_is_not_used(tmp_path: Path) -> None:
    archive, _ = an_archive(tmp_path)
    with pytest.raises(Exception, match=r"has sha512 .* instead of 000000"):
        provision.unpack(archive, "0" * 128, ["etcd"], tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_when_nothing_works_the_error_names_every_way_out_and_what_was_tried(tmp_path: Path) -> None:
    text = provision.ways_out(["etcd"], ["no network"], tmp_path)
    for word in ("needs etcd", "no network", "--kubeconfig", "KUBEBUILDER_ASSETS", str(tmp_path), "github.com", "Go"):
        assert word in text


def test_a_program_whose_build_fails_is_not_left_behind(tmp_path: Path, empty_machine: Path) -> None:
    fake_go(empty_machine, "exit 1")
    with pytest.raises(provision.NoBinaries, match="go build of kube-apiserver failed: broken"):
        provision.obtain(Progress())
    assert list(binaries.cache_folder({"XDG_CACHE_HOME": str(tmp_path)}, binaries.system()).iterdir()) == []


def test_what_is_built_is_found_the_next_time(empty_machine: Path) -> None:
    fake_go(empty_machine, 'for last; do :; done; while [ "$1" != -o ]; do shift; done; echo "$last" > "$2"')
    built = provision.obtain(Progress())
    assert set(built) == ALL
    assert built == binaries.find()
    assert built["etcd"].read_text() == "go.etcd.io/etcd/server/v3\n"


def test_two_processes_that_need_the_programs_build_them_once(empty_machine: Path) -> None:
    log = empty_machine / "builds"
    fake_go(empty_machine, f'while [ "$1" != -o ]; do shift; done; echo "$2" >> {log}; sleep 0.2; echo x > "$2"')
    threads = [threading.Thread(target=provision.obtain, args=(Progress(Console(quiet=True)),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.read_text().splitlines()) == len(ALL)


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache, where github.com does not answer; returns the only folder on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "sleep"):
        (folder / tool).symlink_to(Path("/bin") / tool)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setattr(provision, "archive_url", lambda system: f"file:///no/such/archive/{system}")
    return folder


def fake_go(folder: Path, build: str) -> None:
    """A stand-in for Go that says its version and builds by this piece of shell."""
    program = folder / "go"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = version ]; then echo go version go1.26.6; exit; fi\necho broken >&2\n{build}\n'
    )
    program.chmod(0o755)


def an_archive(folder: Path) -> tuple[Path, str]:
    """An archive laid out like envtest's, and its sha512."""
    (folder / "cache").mkdir()
    path = folder / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("etcd", "kubectl", "kube-apiserver"):
            content = f"{name} program".encode()
            member = tarfile.TarInfo(f"controller-tools/envtest/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path, hashlib.sha512(path.read_bytes()).hexdigest()
