"""deploy/ against the real API server: is it accepted, and has each account the rights it needs and no others?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from spotjob.local import probes
from spotjob.local.control_plane import ControlPlane
from spotjob.settings import Settings

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crds")]

DEPLOY = Path(__file__).parents[2] / "deploy"
WAYS = {"base": DEPLOY / "base", "split": DEPLOY / "overlays" / "split"}
NAMESPACE = "spotjob-system"


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest, control_plane: ControlPlane) -> Iterator[str]:
    """One way of running SpotJob, really applied. Bindings have the same names in all ways, so one replaces another."""
    control_plane.kubectl("apply", "--server-side", "-k", str(WAYS[request.param]))
    yield request.param
    control_plane.kubectl("apply", "--server-side", "-k", str(WAYS["base"]))


def rendered(control_plane: ControlPlane, folder: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(control_plane.kubectl("kustomize", str(folder)).stdout))


def containers(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every container, by its Deployment and its own name."""
    return {
        f"{d['metadata']['name']}/{c['name']}": c
        for d in documents
        if d["kind"] == "Deployment"
        for c in d["spec"]["template"]["spec"]["containers"]
    }


def may(api: httpx.Client, account: str, right: str) -> bool:
    """Whether a ServiceAccount of ours has a right, written `verb group/resource/subresource [namespace/name]`."""
    verb, path, *where = right.split()
    group, resource, subresource = (*path.split("/"), "", "")[:3]
    namespace, name = where[0].split("/") if where else ("", "")
    attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{NAMESPACE}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated"],
            "resourceAttributes": attributes | {"namespace": namespace, "name": name},
        },
    }
    answer = api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review)
    answer.raise_for_status()
    return bool(answer.json()["status"]["allowed"])


def missing(api: httpx.Client, account: str, rights: Collection[str]) -> list[str]:
    """Those that an account has not got, also when the API server has had time to read what was applied."""
    return soon_none(lambda: [right for right in rights if not may(api, account, right)])


def too_many(api: httpx.Client, account: str, rights: Collection[str]) -> list[str]:
    """Those that an account has; one that it had in another way may be known to the API server for a moment more."""
    return soon_none(lambda: [right for right in rights if may(api, account, right)])


def soon_none(look: Callable[[], list[str]]) -> list[str]:
    """What is found, once nothing is or 30 s have passed."""
    deadline = time.monotonic() + 30
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def test_everything_is_accepted_without_a_warning(control_plane: ControlPlane, way: str) -> None:
    """The namespace warns of a pod that is less than `restricted`."""
    done = control_plane.kubectl("apply", "--server-side", "--dry-run=server", "-k", str(WAYS[way]))
    assert done.stderr == ""
    assert "deployment.apps/" in done.stdout


def test_one_pod_in_base_and_two_in_split(control_plane: ControlPlane) -> None:
    assert set(containers(rendered(control_plane, WAYS["base"]))) == {"spotjob/operator", "spotjob/api"}
    split = set(containers(rendered(control_plane, WAYS["split"])))
    assert split == {"spotjob-operator/operator", "spotjob-api/api"}


def test_every_container_is_confined_and_watched(control_plane: ControlPlane, way: str) -> None:
    for container in containers(rendered(control_plane, WAYS[way])).values():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert container["resources"]["limits"]["memory"]


def deployments(control_plane: ControlPlane, folder: Path) -> list[dict[str, Any]]:
    return [d for d in rendered(control_plane, folder) if d["kind"] == "Deployment"]


def test_of_everything_there_are_two_and_a_rollout_takes_none_away(control_plane: ControlPlane, way: str) -> None:
    for deployment in deployments(control_plane, WAYS[way]):
        assert deployment["spec"]["replicas"] == 2
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_replicas_are_kept_apart_by_node_and_zone_where_that_is_possible(control_plane: ControlPlane, way: str) -> None:
    for deployment in deployments(control_plane, WAYS[way]):
        template = deployment["spec"]["template"]
        spread = template["spec"]["topologySpreadConstraints"]
        assert {s["topologyKey"] for s in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        for constraint in spread:
            assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
            assert constraint["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
            assert constraint["matchLabelKeys"] == ["pod-template-hash"]


def test_a_disruption_budget_of_its_own_watches_over_each_deployment(control_plane: ControlPlane, way: str) -> None:
    """A pod under two budgets cannot be evicted; Deployments under one wait for each other's pods."""
    documents = rendered(control_plane, WAYS[way])
    budgets = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "PodDisruptionBudget"}
    pods = {
        d["metadata"]["name"]: d["spec"]["template"]["metadata"]["labels"]
        for d in documents
        if d["kind"] == "Deployment"
    }
    watched = {
        budget: [name for name, labels in pods.items() if spec["selector"]["matchLabels"].items() <= labels.items()]
        for budget, spec in budgets.items()
    }
    assert watched == {name: [name] for name in pods}
    assert [spec["maxUnavailable"] for spec in budgets.values()] == [1] * len(pods)


def test_a_pod_is_ready_only_when_both_its_watch_and_its_api_are(control_plane: ControlPlane) -> None:
    """Leading or not: a standby's API takes its share of requests."""
    (deployment,) = deployments(control_plane, WAYS["base"])
    probed = {c["name"]: c["readinessProbe"]["httpGet"] for c in deployment["spec"]["template"]["spec"]["containers"]}
    assert probed == {
        "operator": {"path": "/readyz", "port": "metrics"},
        "api": {"path": "/readyz", "port": "api"},
    }


def test_every_replica_has_a_name_of_its_own_in_the_lease(control_plane: ControlPlane, way: str) -> None:
    for container in containers(rendered(control_plane, WAYS[way])).values():
        (identity,) = (v for v in container["env"] if v["name"] == "SPOTJOB_IDENTITY")
        assert identity["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_the_ports_are_those_of_the_settings(control_plane: ControlPlane, way: str) -> None:
    ports = {
        port["name"]: port["containerPort"]
        for container in containers(rendered(control_plane, WAYS[way])).values()
        for port in container["ports"]
    }
    assert ports == {"metrics": Settings().metrics_port, "api": Settings().api_port}


def test_every_setting_that_is_deployed_exists(control_plane: ControlPlane, way: str) -> None:
    documents = rendered(control_plane, WAYS[way])
    names = {v["name"] for c in containers(documents).values() for v in c["env"]}
    names |= {name for d in documents if d["kind"] == "ConfigMap" for name in d["data"]}
    ours = {name.removeprefix("SPOTJOB_").lower() for name in names if name.startswith("SPOTJOB_")}
    assert {"cluster_name", "identity"} <= ours <= set(Settings.model_fields)


def test_the_services_own_variables_stay_out_of_the_settings(control_plane: ControlPlane, way: str) -> None:
    """A Service `spotjob-api` would set SPOTJOB_API_PORT=tcp://... in every pod beside it."""
    pods = [d["spec"]["template"]["spec"] for d in rendered(control_plane, WAYS[way]) if d["kind"] == "Deployment"]
    assert [pod["enableServiceLinks"] for pod in pods] == [False] * len(pods)


def test_the_service_finds_the_pod_with_the_api_and_only_that(control_plane: ControlPlane, way: str) -> None:
    documents = rendered(control_plane, WAYS[way])
    (service,) = (d for d in documents if d["kind"] == "Service")
    wanted = service["spec"]["selector"].items()
    found = [
        d["metadata"]["name"]
        for d in documents
        if d["kind"] == "Deployment" and wanted <= d["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert found == [{"base": "spotjob", "split": "spotjob-api"}[way]]


OPERATOR_MAY = (
    *(
        f"{verb} spotjob.dev/{kind}"
        for kind in ("spotjobs", "jobsequences")
        for verb in ("get", "list", "watch", "create", "patch", "delete")
    ),
    "patch spotjob.dev/spotjobs/status",
    "patch spotjob.dev/jobsequences/status",
    "update spotjob.dev/jobsequences/finalizers",
    *(f"{verb} spotjob.dev/spotjobclasses" for verb in ("list", "watch")),
    "get /namespaces",
    "create events.k8s.io/events default/",
    f"create coordination.k8s.io/leases {NAMESPACE}/",
    f"get coordination.k8s.io/leases {NAMESPACE}/spotjob-operator",
    f"watch coordination.k8s.io/leases {NAMESPACE}/spotjob-operator",
    f"update coordination.k8s.io/leases {NAMESPACE}/spotjob-operator",
)
API_MAY = (
    *(f"{verb} spotjob.dev/spotjobs" for verb in ("get", "list", "watch", "create", "delete")),
    "patch spotjob.dev/spotjobs/status",
    *(f"{verb} spotjob.dev/spotjobclasses" for verb in ("get", "list")),
    "create events.k8s.io/events default/",
    "get /secrets default/any",
    "get /configmaps default/any",
    "get /namespaces /kube-system",
    "create authentication.k8s.io/tokenreviews",
    "create authorization.k8s.io/subjectaccessreviews",
)
NOBODY_MAY = (
    "update spotjob.dev/spotjobs",
    "get spotjob.dev/spotjobs/status",
    "update spotjob.dev/spotjobs/status",
    "update spotjob.dev/jobsequences",
    "get spotjob.dev/jobsequences/status",
    "create spotjob.dev/spotjobclasses",
    "patch spotjob.dev/spotjobclasses",
    "list /secrets",
    "watch /secrets",
    f"patch /secrets {NAMESPACE}/spotjob-keys",
    "list /configmaps",
    "create /events default/",
    "patch events.k8s.io/events default/",
    "create /pods default/",
    "create /serviceaccounts/token default/default",
    "patch /namespaces /default",
    f"get coordination.k8s.io/leases {NAMESPACE}/another",
    f"watch coordination.k8s.io/leases {NAMESPACE}/",
    "update coordination.k8s.io/leases kube-system/spotjob-operator",
    f"delete coordination.k8s.io/leases {NAMESPACE}/spotjob-operator",
    "create rbac.authorization.k8s.io/clusterrolebindings",
    "impersonate /users",
    "patch apps/deployments spotjob-system/spotjob",
)


def test_each_account_has_all_the_rights_it_needs(api: httpx.Client, way: str) -> None:
    operator, people = {"base": ("spotjob", "spotjob"), "split": ("spotjob-operator", "spotjob-api")}[way]
    assert missing(api, operator, OPERATOR_MAY) == []
    assert missing(api, people, API_MAY) == []


def test_no_account_has_a_right_that_nobody_needs(api: httpx.Client, way: str) -> None:
    for account in {"base": ("spotjob",), "split": ("spotjob-operator", "spotjob-api")}[way]:
        assert too_many(api, account, NOBODY_MAY) == []


@pytest.mark.parametrize("way", ["split"], indirect=True)
def test_in_split_neither_account_has_the_rights_of_the_other(api: httpx.Client, way: str) -> None:
    only_the_apis = set(API_MAY) - set(OPERATOR_MAY) - {"get /namespaces /kube-system"}
    only_the_operators = set(OPERATOR_MAY) - set(API_MAY)
    assert too_many(api, "spotjob-operator", only_the_apis) == []
    assert too_many(api, "spotjob-api", only_the_operators) == []


@pytest.mark.parametrize("way", ["split"], indirect=True)
def test_in_split_only_the_apis_own_token_reads_a_secret(
    api: httpx.Client, control_plane: ControlPlane, way: str, tmp_path: Path
) -> None:
    assert missing(api, "spotjob-api", ["get /secrets default/any"]) == []
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "stringData": {"a": "b"}}
    control_plane.kubectl("apply", "-n", "default", "-f", "-", input=json.dumps(secret))
    answers = {}
    for account in ("spotjob-operator", "spotjob-api"):
        config = control_plane.service_account_kubeconfig(NAMESPACE, account, tmp_path / account)
        asked = control_plane.kubectl(
            "get", "secret", "mine", "-n", "default", "-o", "name", f"--kubeconfig={config}", check=False
        )
        answers[account] = asked.stdout.strip() or asked.stderr.partition(":")[0]
    assert answers == {"spotjob-operator": "Error from server (Forbidden)", "spotjob-api": "secret/mine"}


@pytest.mark.parametrize(("role", "verb"), [("view", "list"), ("edit", "create"), ("admin", "delete")])
def test_people_get_their_rights_with_the_roles_they_have(
    control_plane: ControlPlane, way: str, role: str, verb: str
) -> None:
    def joined() -> bool:
        """The controller manager joins the rules of labelled roles to the role."""
        rules = json.loads(control_plane.kubectl("get", "clusterrole", role, "-o", "json").stdout)["rules"]
        return any(verb in rule["verbs"] for rule in rules if rule.get("apiGroups") == ["spotjob.dev"])

    probes.wait_until(joined, 60, f"{verb} on spotjobs in {role}")
