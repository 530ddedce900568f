from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from spotjob.local import probes
from spotjob.local.control_plane import Cluster, ControlPlane, KubectlFailed

pytestmark = pytest.mark.cluster

READER = {
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "reader"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader"}],
        },
    ],
}


def test_the_server_says_its_version_so_that_kubectl_can_parse_it(control_plane: ControlPlane) -> None:
    answer = json.loads(control_plane.kubectl("version", "-o", "json").stdout)
    assert answer["serverVersion"]["major"] == "1"
    assert int(answer["serverVersion"]["minor"]) >= 32


def test_without_a_token_the_server_gives_nothing(control_plane: ControlPlane) -> None:
    status, _ = probes.get(f"{control_plane.url}/api/v1/namespaces", ca_file=control_plane.ca_file, timeout_seconds=60)
    assert status == 403


def test_files_with_credentials_are_private(control_plane: ControlPlane) -> None:
    folder = control_plane.kubeconfig.parent
    for name in ("admin.kubeconfig", "tokens.csv", "service-account.key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_a_service_account_has_its_own_rights_and_no_more(control_plane: ControlPlane, tmp_path: Path) -> None:
    control_plane.make_namespace("rights")
    control_plane.kubectl("apply", "-n", "rights", "-f", "-", input=json.dumps(READER))
    path = control_plane.service_account_kubeconfig("rights", "reader", tmp_path / "reader.kubeconfig")
    reader = Cluster(path, control_plane.kubectl_program)

    def may_list() -> bool:
        return reader.kubectl("get", "configmaps", "-n", "rights", check=False).returncode == 0

    probes.wait_until(may_list, 60, "the server to take in the new role")
    with pytest.raises(KubectlFailed, match="Forbidden"):
        reader.kubectl("get", "secrets", "-n", "rights")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_deleted_namespace_goes_with_what_is_in_it(control_plane: ControlPlane) -> None:
    control_plane.make_namespace("passing")
    control_plane.kubectl("create", "configmap", "thing", "-n", "passing")
    control_plane.kubectl("delete", "namespace", "passing", "--wait", "--timeout=120s", timeout_seconds=150)
    assert "NotFound" in control_plane.kubectl("get", "namespace", "passing", check=False).stderr


def test_an_owned_object_goes_with_its_owner(control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "configmap", "owner")
    uid = control_plane.kubectl("get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}").stdout
    owned = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "owned",
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}],
        },
    }
    control_plane.kubectl("create", "-f", "-", input=json.dumps(owned))
    control_plane.kubectl("delete", "configmap", "owner")
    control_plane.kubectl("wait", "--for=delete", "configmap/owned", "--timeout=120s", timeout_seconds=150)
