"""The charts on a real API server: what they let each party do, that hub and agent share a cluster, that they go."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api
from edgefleet.kube.kinds import Kind
from support import crds
from support.charts import CRDS, HUB, JOINING, SITE, TRUST, Object, Releases
from support.cluster import admin, eventually, running
from support.commands import run_as

pytestmark = pytest.mark.cluster
_T = TypeVar("_T")
REVIEW = Kind("SubjectAccessReview", "subjectaccessreviews", "v1", "authorization.k8s.io", namespaced=False)
OPERATOR = "system:serviceaccount:edgefleet-system:edgefleet-operator"
AGENT = "system:serviceaccount:edgefleet-agent:edgefleet-agent"
PARIS = names.site_user("paris", "5a" * 32)
JOINER = "system:serviceaccount:edgefleet-join:paris"


@pytest.fixture(scope="module")
def both() -> Iterator[Releases]:
    """Hub and agent on one cluster, the kinds installed once, and a site with its namespace."""
    with running(f"charts-{secrets.token_hex(3)}", crds=False) as kubeconfig:
        releases = Releases(kubeconfig)
        releases.install(CRDS)
        releases.install(HUB, TRUST)
        releases.install(SITE, JOINING)
        _ask(releases, _bind_paris)
        yield releases


async def _bind_paris(api: Api) -> None:
    """What the operator does when a site joins."""
    await api.create(kinds.NAMESPACE, None, {"metadata": {"name": "site-paris"}})
    await api.create(
        kinds.ROLE_BINDING,
        "site-paris",
        {
            "metadata": {"name": "edgefleet-site"},
            "roleRef": {
                "apiGroup": kinds.ROLE_BINDING.group,
                "kind": "ClusterRole",
                "name": "edgefleet-site",
            },
            "subjects": [{"apiGroup": kinds.ROLE_BINDING.group, "kind": "User", "name": PARIS}],
        },
    )


def _ask(releases: Releases, work: Callable[[Api], Awaitable[_T]]) -> _T:
    async def doing() -> _T:
        async with admin(releases.kubeconfig) as api:
            return await work(api)

    return asyncio.run(doing())


class Right(NamedTuple):
    """One thing somebody might do."""

    verb: str
    resource: str
    """`group/resource[/subresource]`; no group: the core's."""
    namespace: str = ""
    name: str = ""


async def _may(api: Api, user: str, right: Right) -> bool:
    group, _, resource = right.resource.rpartition("#")
    resource, _, sub = resource.partition("/")
    attributes = {
        "verb": right.verb,
        "group": group,
        "resource": resource,
        "subresource": sub,
        "namespace": right.namespace,
        "name": right.name,
    }
    spec: Object = {"user": user, "groups": _groups(user), "resourceAttributes": attributes}
    answer = await api.create(REVIEW, None, {"spec": spec})
    return bool(answer["status"]["allowed"])


def _groups(user: str) -> list[str]:
    if user.startswith("system:serviceaccount:"):
        return [
            "system:authenticated",
            "system:serviceaccounts",
            f"system:serviceaccounts:{user.split(':')[2]}",
        ]
    return ["system:authenticated", names.SITES_ORGANIZATION]


OURS = "edgefleet.dev#"
LEASES = "coordination.k8s.io#leases"
CSRS = "certificates.k8s.io#certificatesigningrequests"
APPS = "apps#deployments"
ALLOWED: dict[str, list[Right]] = {
    PARIS: [
        *(
            Right(verb, f"{OURS}{plural}", "site-paris")
            for verb in ("get", "list", "watch")
            for plural in ("edgedeployments", "edgeagents")
        ),
        Right("patch", f"{OURS}edgedeployments/status", "site-paris"),
        Right("patch", f"{OURS}edgeagents/status", "site-paris"),
        Right("patch", LEASES, "site-paris", "heartbeat"),
        Right("get", "secrets", "site-paris", "registry"),
        Right("create", CSRS),
        Right("get", CSRS),
    ],
    JOINER: [Right("create", CSRS), Right("get", CSRS)],
    OPERATOR: [
        Right("patch", f"{OURS}edgemodels", "vision"),
        Right("patch", f"{OURS}edgemodels/status", "vision"),
        Right("create", f"{OURS}edgerollouts", "vision"),
        Right("create", f"{OURS}edgedeployments", "site-paris"),
        Right("update", f"{CSRS}/approval"),
        Right("approve", "certificates.k8s.io#signers", name="kubernetes.io/kube-apiserver-client"),
        Right("create", "namespaces"),
        Right("delete", "serviceaccounts", "edgefleet-join"),
    ],
    AGENT: [
        Right("create", APPS, "edgefleet-models"),
        Right("delete", "batch#jobs", "edgefleet-models"),
        Right("patch", "services", "edgefleet-models"),
        Right("create", f"{OURS}edgedeployments", "edgefleet-models"),
        Right("patch", f"{OURS}edgeagents/status", "edgefleet-models"),
        Right("create", "secrets", "edgefleet-agent"),
        Right("patch", "secrets", "edgefleet-agent", "edgefleet-identity"),
    ],
}
DENIED: dict[str, list[Right]] = {
    PARIS: [
        Right("get", f"{OURS}edgedeployments", "site-rome"),
        Right("list", f"{OURS}edgedeployments"),
        Right("patch", f"{OURS}edgedeployments", "site-paris"),
        Right("create", f"{OURS}edgedeployments", "site-paris"),
        Right("delete", f"{OURS}edgedeployments", "site-paris"),
        Right("patch", f"{OURS}edgeagents", "site-paris"),
        Right("patch", LEASES, "site-paris", "another"),
        Right("create", LEASES, "site-paris"),
        Right("get", "secrets", "site-paris", "another"),
        Right("list", "secrets", "site-paris"),
        Right("list", CSRS),
        Right("update", f"{CSRS}/approval"),
        Right("get", f"{OURS}edgesites"),
        Right("get", f"{OURS}edgemodels", "vision"),
        Right("create", "serviceaccounts/token", "edgefleet-join", "paris"),
    ],
    JOINER: [
        Right("list", CSRS),
        Right("get", f"{OURS}edgesites"),
        Right("get", f"{OURS}edgedeployments", "site-paris"),
        Right("get", "secrets", "edgefleet-join"),
        Right("create", "serviceaccounts/token", "edgefleet-join", "paris"),
    ],
    OPERATOR: [
        Right("get", "secrets", "edgefleet-system"),
        Right("list", "secrets"),
        Right("delete", "namespaces", name="site-paris"),
        Right("create", APPS, "default"),
        Right("create", "pods", "edgefleet-system"),
        Right("create", f"{OURS}edgemodels", "vision"),
        Right("delete", f"{OURS}edgemodels", "vision"),
        Right("patch", f"{OURS}edgesites"),
        Right("patch", f"{OURS}edgedeployments/status", "site-paris"),
        Right("bind", "rbac.authorization.k8s.io#clusterroles", name="cluster-admin"),
        Right("escalate", "rbac.authorization.k8s.io#clusterroles"),
        Right("approve", "certificates.k8s.io#signers", name="kubernetes.io/kubelet-serving"),
        Right("create", "serviceaccounts/token", "edgefleet-join", "paris"),
        Right("delete", "serviceaccounts", "default"),
        Right("impersonate", "users"),
    ],
    AGENT: [
        Right("create", APPS, "default"),
        Right("create", APPS, "kube-system"),
        Right("create", APPS, "edgefleet-agent"),
        Right("list", "pods"),
        Right("create", "pods", "edgefleet-models"),
        Right("get", "secrets", "edgefleet-models"),
        Right("list", "secrets", "edgefleet-agent"),
        Right("get", "secrets", "edgefleet-agent", "another"),
        Right("create", "namespaces"),
        Right("create", "rbac.authorization.k8s.io#rolebindings", "edgefleet-models"),
        Right("create", "pods/exec", "edgefleet-models"),
        Right("get", f"{OURS}edgemodels", "vision"),
    ],
}
WHO = {PARIS: "a site", JOINER: "a joining site", OPERATOR: "the operator", AGENT: "the agent"}


@pytest.mark.parametrize("user", list(WHO), ids=list(WHO.values()))
def test_everybody_may_do_their_work_and_nothing_else(both: Releases, user: str) -> None:
    async def work(api: Api) -> tuple[list[Right], list[Right]]:
        lacking = [right for right in ALLOWED[user] if not await _may(api, user, right)]
        excess = [right for right in DENIED[user] if await _may(api, user, right)]
        return lacking, excess

    assert _ask(both, work) == ([], [])


@pytest.mark.parametrize(
    ("namespace", "name"),
    [("edgefleet-system", "edgefleet-operator"), ("edgefleet-agent", "edgefleet-agent")],
    ids=["operator", "agent"],
)
def test_pods_pass_restricted_pod_security(both: Releases, namespace: str, name: str) -> None:
    async def work(api: Api) -> None:
        label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
        await api.merge_patch(kinds.NAMESPACE, None, namespace, label)
        template = (await api.get(kinds.DEPLOYMENT, namespace, name))["spec"]["template"]
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "dry"}, "spec": template["spec"]}
        await api.request("POST", kinds.POD.path(namespace), {"dryRun": "All"}, body)

    _ask(both, work)


def test_models_run_under_restricted_pod_security(both: Releases) -> None:
    raw = _ask(both, lambda api: api.get(kinds.NAMESPACE, None, "edgefleet-models"))

    assert raw["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_sites_have_their_own_share_of_the_api_server(both: Releases) -> None:
    schema = Kind("FlowSchema", "flowschemas", "v1", "flowcontrol.apiserver.k8s.io", namespaced=False)

    raw = _ask(both, lambda api: api.get(schema, None, "edgefleet-sites"))

    assert raw["spec"]["priorityLevelConfiguration"]["name"] == "edgefleet-sites"
    dangling = {c["type"]: c["status"] for c in raw["status"]["conditions"]}
    assert dangling["Dangling"] == "False"


def test_charts_can_be_applied_again_unchanged(both: Releases) -> None:
    before = _ask(both, lambda api: api.get(kinds.DEPLOYMENT, "edgefleet-system", "edgefleet-operator"))

    both.install(CRDS)
    both.install(HUB, TRUST)
    both.install(SITE, JOINING)

    after = _ask(both, lambda api: api.get(kinds.DEPLOYMENT, "edgefleet-system", "edgefleet-operator"))
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


def test_kinds_and_objects_outlive_their_chart(both: Releases) -> None:
    site = crds.example(kinds.EDGE_SITE, {"metadata.name": "outlives"})
    _ask(
        both, lambda api: api.create(kinds.EDGE_SITE, None, {k: v for k, v in site.items() if k != "status"})
    )

    both.uninstall(CRDS)
    there = _ask(both, lambda api: api.get(kinds.EDGE_SITE, None, "outlives"))
    both.install(CRDS)

    assert there["spec"] == site["spec"]


def test_a_site_that_is_uninstalled_keeps_its_models_its_journal_and_its_name(both: Releases) -> None:
    async def place(api: Api) -> None:
        identity = {"metadata": {"name": "edgefleet-identity"}, "stringData": {"tls.key": "k"}}
        await api.create(kinds.SECRET, "edgefleet-agent", identity)

    async def left(api: Api) -> list[str]:
        await api.get(kinds.NAMESPACE, None, "edgefleet-models")
        await api.get(kinds.CLAIM, "edgefleet-agent", "edgefleet-store")
        await api.get(kinds.SECRET, "edgefleet-agent", "edgefleet-identity")
        return [raw["metadata"]["name"] for raw in await api.list(kinds.DEPLOYMENT, "edgefleet-agent")]

    _ask(both, place)
    both.uninstall(SITE)

    assert _ask(both, left) == []
    both.install(SITE, JOINING)
    assert _ask(both, left) == ["edgefleet-agent"]


def test_an_uninstalled_hub_leaves_models_that_can_be_deleted(both: Releases) -> None:
    """The chart's Job runs in no pod here: the test does its work with the Job's own credential."""
    model = crds.example(kinds.EDGE_MODEL, {"metadata.finalizers": [names.MODEL_FINALIZER]})
    _ask(
        both, lambda api: api.create(kinds.EDGE_MODEL, "default", {k: model[k] for k in ("metadata", "spec")})
    )

    asyncio.run(_uninstall(both))

    async def gone(api: Api) -> None:
        await api.delete(kinds.EDGE_MODEL, "default", "digits", uid=None)
        with pytest.raises(errors.NotFound):
            await api.get(kinds.EDGE_MODEL, "default", "digits")

    _ask(both, gone)
    with pytest.raises(errors.NotFound):
        _ask(both, lambda api: api.get(kinds.CLUSTER_ROLE, None, "edgefleet-release-models"))
    _ask(both, _without_join_namespace)
    both.install(HUB, TRUST)


async def _without_join_namespace(api: Api) -> None:
    """It takes the API server a moment to empty it."""

    async def gone() -> bool:
        return not [
            raw for raw in await api.list(kinds.NAMESPACE) if raw["metadata"]["name"] == names.JOIN_NAMESPACE
        ]

    await eventually(gone, "namespace edgefleet-join is gone", seconds=60)


async def _uninstall(releases: Releases) -> None:
    async with admin(releases.kubeconfig) as api:
        going = asyncio.create_task(asyncio.to_thread(releases.uninstall, HUB, "--timeout", "60s"))
        pod = await eventually(lambda: _hook_pod(api), "the hook's Job has a pod", seconds=40)
        await _release(api, releases.kubeconfig)
        ended = {"containerStatuses": [_ended(pod)], "phase": "Succeeded"}
        meta = pod["metadata"]
        await api.merge_patch(kinds.POD, meta["namespace"], meta["name"], {"status": ended}, status=True)
        await going


async def _hook_pod(api: Api) -> Object | None:
    selector = "batch.kubernetes.io/job-name=edgefleet-release-models"
    return next(iter(await api.list(kinds.POD, "edgefleet-system", labels=selector)), None)


def _ended(pod: Object) -> dict[str, Any]:
    container = pod["spec"]["containers"][0]
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
    }


async def _release(api: Api, kubeconfig: Path) -> None:
    """`edgefleet release`, as the Job's ServiceAccount."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = await api.create(
        kinds.SERVICE_ACCOUNT, "edgefleet-system", body, name="edgefleet-release-models", sub="token"
    )
    done = await asyncio.to_thread(run_as, kubeconfig, answer["status"]["token"], "release")
    assert done.output == "1 EdgeModels released\n"
