"""localkube's pure parts: addresses, rates, keys, and what it takes for its own."""

from __future__ import annotations

import subprocess
import sys
import time
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

import pytest

from localkube import (
    checks,
    cli,
    cluster,
    gobuild,
    images,
    packages,
    places,
    plan,
    processes,
    teardown,
    trees,
)
from localkube.places import Cluster, LocalkubeError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCALKUBE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def a_cluster(mode: str = "full") -> Cluster:
    return Cluster(
        "hub", mode, "198.18.0.10", "198.18.1.10", 6443, 2379, "10.42.0.0/16", "10.43.0.0/16", 0, "secret"
    )


def test_every_cluster_has_its_own_address_on_each_leg() -> None:
    all_of_them = [plan.addresses(index) for index in range(plan.MAX_CLUSTERS)]
    assert len({each.wan_ip for each in all_of_them}) == plan.MAX_CLUSTERS
    assert all(IPv4Address(each.wan_ip) in plan.WAN for each in all_of_them)
    assert all(IPv4Address(each.mgmt_ip) in plan.MGMT for each in all_of_them)
    assert plan.gateway(plan.WAN) not in {each.wan_ip for each in all_of_them}
    # The kernel takes 15 characters.
    assert max(len(each.mgmt_veth) for each in all_of_them) <= 15


def test_one_cluster_too_many_is_refused_with_advice() -> None:
    with pytest.raises(plan.PlanError, match="down"):
        plan.addresses(plan.MAX_CLUSTERS)


def test_pod_and_service_networks_avoid_what_the_machine_routes() -> None:
    assert plan.ranges([]).pods == "10.42.0.0/16"
    avoided = plan.ranges(["10.43.7.0/24"])
    assert not IPv4Network(avoided.pods).overlaps(IPv4Network("10.43.7.0/24"))
    assert avoided.pods == "10.142.0.0/16"
    with pytest.raises(plan.PlanError, match="free one"):
        plan.ranges(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"])


def test_the_dns_address_lies_in_the_service_network() -> None:
    for pods, services in plan.CANDIDATES:
        ranges = plan.Ranges(pods, services)
        assert IPv4Address(ranges.dns_ip) in IPv4Network(services)
        assert not IPv4Network(pods).overlaps(IPv4Network(services))


def test_routes_are_read_without_the_default_and_without_own_bridges() -> None:
    text = """default via 192.0.2.1 dev eth0
192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.2
local 127.0.0.0/8 dev lo table local proto kernel scope host src 127.0.0.1
198.18.0.0/24 dev efwan proto kernel scope link src 198.18.0.1
broadcast 192.0.2.255 dev eth0 table local
"""
    found = plan.networks_of(text)
    assert found == ["192.0.2.0/24", "127.0.0.0/8", "192.0.2.255"]
    assert plan.clash_with_legs(found) is None
    assert plan.clash_with_legs(["198.18.0.0/15"]) == "198.18.0.0/15"


@pytest.mark.parametrize(
    ("text", "bits"),
    [("2mbit", 2_000_000), ("512kbit", 512_000), ("1.5mbit", 1_500_000), ("1gbit", 10**9), ("off", None)],
)
def test_rates_are_understood(text: str, bits: int | None) -> None:
    assert plan.rate_in_bits(text) == bits


@pytest.mark.parametrize("text", ["", "2", "fast", "-1mbit", "0mbit", "2mbit; reboot", "2 mbit"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(plan.PlanError, match="write it like"):
        plan.rate_in_bits(text)


@pytest.mark.parametrize("name", ["", "Hub", "../x", "a" * 31, "-a", "a-", "1a", "a_b", "a.b", "hub\n"])
def test_names_that_could_leave_their_folder_are_refused(name: str) -> None:
    with pytest.raises(plan.PlanError):
        plan.check_name(name)


@pytest.mark.parametrize("name", ["hub", "site-1", "a", "a" * 30])
def test_ordinary_names_are_taken(name: str) -> None:
    assert plan.check_name(name) == name


def test_the_binarys_key_changes_with_its_source_only(tmp_path: Path) -> None:
    for name, text in (("main.go", "package main"), ("go.mod", "module x"), ("go.sum", "")):
        (tmp_path / name).write_text(text)
    first = gobuild.source_key(tmp_path)
    (tmp_path / "README").write_text("not source")
    assert gobuild.source_key(tmp_path) == first
    (tmp_path / "go.sum").write_text("changed")
    assert gobuild.source_key(tmp_path) != first


def test_a_trees_key_sees_content_name_and_executable_bit(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    keys = {trees.key([tmp_path])}
    file.write_text("2")
    keys.add(trees.key([tmp_path]))
    file.chmod(0o755)
    keys.add(trees.key([tmp_path]))
    file.rename(tmp_path / "b")
    keys.add(trees.key([tmp_path]))
    keys.add(trees.key([tmp_path], "another tag"))
    assert len(keys) == 5


def test_a_trees_key_leaves_out_what_the_build_ignores(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("# comment\nbuild/\n**/*.log\n!keep\n")
    before = trees.key([tmp_path], skipped=trees.ignored_by(tmp_path))
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "big").write_text("x")
    (tmp_path / "some.log").write_text("x")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("x")
    assert trees.key([tmp_path], skipped=trees.ignored_by(tmp_path)) == before


def test_an_output_is_current_until_its_inputs_change(tmp_path: Path) -> None:
    output = tmp_path / "image.tar"
    assert not trees.is_current(output, "k1")
    output.write_text("x")
    trees.mark_current(output, "k1")
    assert trees.is_current(output, "k1")
    assert not trees.is_current(output, "k2")


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("edgefleet:dev", "docker.io/library/edgefleet:dev"),
        ("acme/edgefleet:dev", "docker.io/acme/edgefleet:dev"),
        ("ghcr.io/acme/edgefleet:dev", "ghcr.io/acme/edgefleet:dev"),
        ("localhost/edgefleet:dev", "localhost/edgefleet:dev"),
        ("host:5000/edgefleet:dev", "host:5000/edgefleet:dev"),
    ],
)
def test_short_image_names_become_what_kubelet_looks_for(short: str, full: str) -> None:
    assert images.full_name(short) == full


def test_a_record_is_read_back_as_it_was_written(state: Path) -> None:
    cluster = a_cluster()
    cluster.save()
    assert places.load("hub") == cluster
    assert places.names() == []  # no mark: not a folder `down` may delete
    (state / "hub" / places.MARK).touch()
    assert places.names() == ["hub"]
    assert cluster.server("wan") == "https://198.18.0.10:6443"
    assert "secret" not in repr(cluster)
    assert (state / "hub" / "cluster.json").stat().st_mode & 0o077 == 0


def test_a_broken_record_says_how_to_get_rid_of_it(state: Path) -> None:
    (state / "hub").mkdir(parents=True)
    (state / "hub" / "cluster.json").write_text("{")
    with pytest.raises(LocalkubeError, match="down hub"):
        places.load("hub")


@pytest.mark.usefixtures("state")
def test_an_unknown_cluster_says_how_to_start_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["kubeconfig", "hub"]) == 1
    assert "localkube up hub" in capsys.readouterr().err


def test_an_api_only_cluster_has_no_leg_to_cut(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(a_cluster("api-only").home).startswith(str(state))
    a_cluster("api-only").save()
    assert cli.main(["cut", "hub"]) == 1
    assert "--api-only" in capsys.readouterr().err


def test_a_full_cluster_on_etcd_is_refused_before_anything_is_made(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["up", "hub", "--store", "etcd"]) == 1
    assert "--api-only" in capsys.readouterr().err
    assert not state.exists()


@pytest.mark.usefixtures("state")
def test_a_cluster_keeps_the_store_it_was_made_with() -> None:
    cluster.prepare("hub", full=False, store="etcd")
    cluster.prepare("hub", full=False)
    made = places.known("hub")
    assert cluster.daemons(made) == ("etcd", "kube-apiserver", "kube-controller-manager")
    with pytest.raises(LocalkubeError, match="down hub"):
        cluster.prepare("hub", full=False, store="kine")
    cluster.prepare("other", full=False)
    assert places.known("other").store == "kine"


@pytest.mark.usefixtures("state")
def test_too_little_memory_is_said_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "memory_mb", lambda: 100)
    monkeypatch.setattr(checks, "disk_mb", lambda _: 100)
    with pytest.raises(LocalkubeError, match=r"(?s)memory are needed.*disk are needed"):
        checks.before_up(["hub"], full=False)


@pytest.mark.usefixtures("state")
def test_full_clusters_ask_for_root_and_name_the_way_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LocalkubeError, match="--api-only"):
        checks.before_up(["hub"], full=True)


def test_only_packages_of_missing_programs_are_wanted() -> None:
    assert packages.missing({"sh": "dash", "no-such-program": "a-package"}) == ["a-package"]


def test_a_daemon_is_known_by_its_start_and_not_by_its_number_alone(tmp_path: Path) -> None:
    pid = processes.start(tmp_path, "sleeper", [sys.executable, "-c", "import time; time.sleep(60)"])
    file = tmp_path / "pids" / "sleeper"
    try:
        assert processes.running(file) == pid
        assert processes.start(tmp_path, "sleeper", ["false"]) == pid, "a second start leaves the first alone"
        file.write_text(f"{pid} 12345\n")
        assert processes.running(file) is None, "the same number, another process"
    finally:
        processes.end([pid])
    assert processes.start_time(pid) is None


def test_a_daemon_that_ends_at_once_shows_its_last_words(tmp_path: Path) -> None:
    pid = processes.start(tmp_path, "short", [sys.executable, "-c", "print('no such disk')"])
    deadline = time.monotonic() + 20
    while processes.start_time(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(LocalkubeError, match="no such disk"):
        processes.must_live(tmp_path, ["short"])


def test_programs_of_others_that_name_the_folder_are_not_ours(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", f"{tmp_path}/log"]) as other:
        try:
            assert other.pid not in processes.below(tmp_path)
        finally:
            other.kill()


def test_nothing_is_mounted_below_a_fresh_folder(tmp_path: Path) -> None:
    assert teardown.mounts_below(tmp_path) == []
