"""What helm makes of the charts' values, and which it refuses with the reason."""

from typing import Any

import pytest
from edgefleet.core import names
from support import charts
from support.charts import CRDS, HUB, JOINING, KEY, SITE, TRUST, Object

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize(
    ("chart", "values"), [(CRDS, {}), (HUB, TRUST), (SITE, JOINING)], ids=[CRDS, HUB, SITE]
)
def test_helm_finds_no_fault(chart: str, values: Object) -> None:
    done = charts.helm("lint", "--strict", charts.CHARTS / chart, values=values)

    assert done.returncode == 0, done.stdout


REFUSED: dict[str, tuple[str, Object, str]] = {
    "a hub without keys": (HUB, {}, "trust.publicKeys must hold at least one public key"),
    "a site without keys": (SITE, {}, "a site runs nothing that is not signed by a key it was given"),
    "a private key": (
        HUB,
        {"trust": {"publicKeys": {"a.pem": KEY.replace("PUBLIC", "PRIVATE")}}},
        "does not match pattern",
    ),
    "a key without ending": (HUB, {"trust": {"publicKeys": {"release": KEY}}}, "release"),
    "a value nobody reads": (HUB, {**TRUST, "replicas": 2}, "replicas"),
    "a hub without name for the site": (SITE, {**JOINING, "site": {"name": ""}}, "site.name must be set"),
    "a name without hub": (SITE, {**TRUST, "site": {"name": "paris"}}, "hub.server must be set"),
    "a hub without authority": (
        SITE,
        {**JOINING, "hub": {"server": "https://hub:6443", "caData": ""}},
        "hub.caData must be set",
    ),
    "a token without hub": (SITE, {**TRUST, "join": {"token": "x"}}, "join.token has no effect"),
    "two tokens": (
        SITE,
        {**JOINING, "join": {"token": "x", "existingSecret": "mine"}},
        "must not both be set",
    ),
    "a hub without TLS": (SITE, {**JOINING, "hub": {"server": "http://hub", "caData": "eA=="}}, "server"),
    "a site's name in capitals": (SITE, {**JOINING, "site": {"name": "Paris"}}, "name"),
    "models beside the system": (
        SITE,
        {**TRUST, "models": {"namespace": "kube-system"}},
        "models.namespace must be a namespace of its own",
    ),
    "models beside the agent": (
        SITE,
        {**TRUST, "models": {"namespace": "edgefleet-agent"}},
        "models.namespace must be a namespace of its own",
    ),
    "a registry with a path": (HUB, {**TRUST, "plainHttpRegistries": ["host/a"]}, "plainHttpRegistries"),
}


@pytest.mark.parametrize(("chart", "values", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_values_that_cannot_work_are_refused(chart: str, values: Object, words: str) -> None:
    assert words in charts.refused(chart, values)


def _environment(container: Object) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container["env"]}


def _pod(objects: list[Object], name: str) -> Object:
    pod: Object = charts.find(objects, "Deployment", name)["spec"]["template"]["spec"]
    return pod


def test_a_site_is_told_its_hub_and_its_name() -> None:
    objects = charts.rendered(SITE, {**JOINING, "plainHttpRegistries": ["a:5000", "b:5000"]})
    agent = _environment(_pod(objects, "edgefleet-agent")["containers"][0])

    assert agent["EDGEFLEET_HUB_SERVER"] == "https://hub.example:6443"
    assert agent["EDGEFLEET_SITE"] == "paris"
    assert agent["EDGEFLEET_PLAIN_HTTP_REGISTRIES"] == "a:5000,b:5000"
    assert agent["EDGEFLEET_STORE_URL"] == "http://edgefleet-agent.edgefleet-agent.svc:8080"
    assert charts.find(objects, "Secret", "edgefleet-join")["stringData"] == {"token": "a-token"}
    assert charts.find(objects, "ConfigMap", "edgefleet-hub")["data"] == {"ca.crt": "-----BEGIN"}


def test_a_box_without_hub_is_told_of_none() -> None:
    objects = charts.rendered(SITE, TRUST)
    agent = _environment(_pod(objects, "edgefleet-agent")["containers"][0])

    assert (agent["EDGEFLEET_HUB_SERVER"], agent["EDGEFLEET_HUB_CA"]) == ("", "")
    assert not [raw for raw in objects if raw["kind"] == "Secret"]


@pytest.mark.parametrize(
    ("chart", "values", "name"),
    [(HUB, TRUST, "edgefleet-operator"), (SITE, JOINING, "edgefleet-agent")],
    ids=[HUB, SITE],
)
def test_there_is_one_at_a_time(chart: str, values: Object, name: str) -> None:
    spec = charts.find(charts.rendered(chart, values), "Deployment", name)["spec"]

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_what_is_mounted_is_there() -> None:
    everything = {
        "registry": {"caBundle": "pem", "dockerConfigSecret": "pull"},
        "nodeSelector": {"a": "b"},
        "tolerations": [{"operator": "Exists"}],
        "imagePullSecrets": [{"name": "pull"}],
        "verbose": True,
    }
    for chart, values, name in ((HUB, TRUST, "edgefleet-operator"), (SITE, JOINING, "edgefleet-agent")):
        objects = charts.rendered(chart, {**values, **everything})
        pod = _pod(objects, name)
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounts = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        maps = {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}

        assert volumes == mounts
        assert maps <= {raw["metadata"]["name"] for raw in objects if raw["kind"] == "ConfigMap"}


def test_a_new_key_starts_the_pods_anew() -> None:
    def mark(key: str) -> Any:
        values = {"trust": {"publicKeys": {"release.pem": key}}}
        found = charts.find(charts.rendered(HUB, values), "Deployment", "edgefleet-operator")
        return found["spec"]["template"]["metadata"]["annotations"]

    assert mark(KEY) != mark(KEY.replace("MCow", "MDow"))


def test_what_a_user_would_miss_stays_when_the_agent_goes() -> None:
    kept = {
        (raw["kind"], raw["metadata"]["name"])
        for raw in charts.rendered(SITE, JOINING)
        if (raw["metadata"].get("annotations") or {}).get("helm.sh/resource-policy") == "keep"
    }

    assert kept >= {("Namespace", "edgefleet-models"), ("PersistentVolumeClaim", "edgefleet-store")}


def test_every_kind_stays_when_its_chart_goes() -> None:
    for raw in charts.rendered(CRDS, {}):
        assert raw["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert raw["spec"]["group"] == names.GROUP
