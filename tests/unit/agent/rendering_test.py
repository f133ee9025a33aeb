"""What the agent makes of an order: pods under restricted pod security, and a Service that selects one revision."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from edgefleet.core import names, rendering
from edgefleet.core.local import Place
from edgefleet.core.local_record import Staged
from edgefleet.core.order import Canary, Gates, OutputCompression, Resources, Serving
from support.site import digest, order

ROOT = Path(__file__).parents[3]
PLACE = Place(serving_priority="edgefleet-serving", selftest_priority="edgefleet-selftest")
STAGED = Staged(
    revision="0123456789",
    bundle=digest("b"),
    name="digits",
    version=7,
    variant="int8",
    serving=digest("s"),
    blobs=(),
)
ORDER = order(
    "0123456789",
    serving=Serving(
        resources=Resources(requests={"cpu": "100m", "memory": "64Mi"}, limits={"memory": "128Mi"}),
        output_compression=OutputCompression(),
    ),
    canary=Canary(gates=Gates(min_golden="97.5%"), progress_deadline="10m"),
)
DEPLOYMENT = rendering.deployment(PLACE, ORDER, STAGED, 2)
JOB = rendering.selftest(PLACE, ORDER, STAGED)


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("manifest", [DEPLOYMENT, JOB], ids=["serving", "self-test"])
def test_pods_keep_the_restricted_pod_security_standard(manifest: dict[str, Any]) -> None:
    spec = pod(manifest)
    (container,) = spec["containers"]
    security = container["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] is True
    assert spec["automountServiceAccountToken"] is False
    assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(spec)
    assert all(set(volume) == {"name", "emptyDir"} for volume in spec["volumes"])


def test_a_pod_asks_for_as_much_memory_as_it_may_use() -> None:
    (container,) = pod(DEPLOYMENT)["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"memory": "128Mi"},
    }


def test_a_pod_loads_by_digest_from_the_site_s_own_store() -> None:
    (container,) = pod(DEPLOYMENT)["containers"]
    words = container["args"]
    assert words[0] == "serve"
    assert words[words.index("--serving") + 1] == STAGED.serving
    assert words[words.index("--store") + 1] == PLACE.store_url
    assert words[words.index("--workload") + 1] == DEPLOYMENT["metadata"]["name"] == "team-digits-0123456789"
    assert container["image"] == ORDER.image


def test_the_self_test_has_the_order_s_gate_as_a_number() -> None:
    (container,) = pod(JOB)["containers"]
    assert container["args"][0] == "selftest"
    assert container["args"][-2:] == ["--min-agreement", "0.975"]


def test_the_self_test_has_the_order_s_time_and_says_so_itself_before_anybody_ends_it() -> None:
    (container,) = pod(JOB)["containers"]
    words = container["args"]
    assert words[words.index("--timeout") + 1] == "600"
    fetching = float(words[words.index("--fetch-timeout") + 1])
    allowed = rendering.selftest_seconds(ORDER)
    assert 600 + fetching < allowed < JOB["spec"]["activeDeadlineSeconds"] <= allowed + 120


def test_the_service_selects_one_revision_and_never_a_self_test() -> None:
    chosen = rendering.service(PLACE, "team", "digits", "0123456789")["spec"]["selector"]
    serving = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    tested = JOB["spec"]["template"]["metadata"]["labels"]
    assert chosen.items() <= serving.items()
    assert not chosen.items() <= tested.items()
    assert names.MODEL not in tested


def test_nothing_in_a_pod_says_stable_or_canary() -> None:
    text = str(DEPLOYMENT["spec"]["template"])
    assert "stable" not in text
    assert "canary" not in text


def test_the_number_of_replicas_and_policy_do_not_touch_the_template() -> None:
    other = rendering.deployment(PLACE, order("0123456789", serving=ORDER.serving, attempt=3), STAGED, 5)
    assert other["spec"]["template"] == DEPLOYMENT["spec"]["template"]


def test_a_rolling_change_of_pods_never_has_fewer_ready() -> None:
    assert DEPLOYMENT["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert pod(DEPLOYMENT)["terminationGracePeriodSeconds"] == 40


def test_self_tests_give_way_to_what_serves() -> None:
    assert pod(DEPLOYMENT)["priorityClassName"] == "edgefleet-serving"
    assert pod(JOB)["priorityClassName"] == "edgefleet-selftest"
    assert "priorityClassName" not in pod(rendering.deployment(Place(), ORDER, STAGED, 1))


def test_neither_serving_pods_nor_self_tests_push_out_what_else_the_site_runs() -> None:
    template = (ROOT / "charts/edgefleet-site/templates/priority.yaml").read_text()
    plain = "\n".join(line for line in template.splitlines() if "{{" not in line)
    classes = list(yaml.safe_load_all(plain))
    assert [item["preemptionPolicy"] for item in classes] == ["Never", "Never"]
    serving, selftest = (item["value"] for item in classes)
    assert serving > 0 > selftest


def test_names_fit_their_limits() -> None:
    """Namespace and model have at most 40 characters together with the dash, see docs."""
    assert len(rendering.selftest_name("n" * 19, "m" * 20, ORDER.revision)) <= 63
