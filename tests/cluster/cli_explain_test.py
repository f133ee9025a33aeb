"""`edgefleet explain`, `dump`, `plan` and `rollout watch` beside a real operator on a real API server."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from edgefleet.cli.main import cli
from edgefleet.core import names
from edgefleet.kube import kinds
from support.hub import Fleet, Shelf

pytestmark = pytest.mark.cluster


async def run(kubeconfig: Path, *arguments: str) -> Result:
    """Run a command as a person would."""
    command = [*arguments, "--kubeconfig", str(kubeconfig)]
    return await asyncio.to_thread(CliRunner().invoke, cli, command)


def written(fleet: Fleet, folder: Path, bundle: str, **spec: Any) -> Path:
    """A file with an EdgeModel for the sites of the test."""
    whole = {"bundle": bundle, "placement": {"siteSelector": {"matchLabels": {"test": fleet.id}}}, **spec}
    head = {"name": "digits", "namespace": fleet.namespace}
    file = folder / "model.yaml"
    file.write_text(
        yaml.safe_dump(
            {"apiVersion": names.API_VERSION, "kind": "EdgeModel", "metadata": head, "spec": whole}
        )
    )
    return file


async def test_why_a_site_is_not_chosen_is_one_command_away_live_and_from_a_dump(
    fleet: Fleet, shelf: Shelf, api_server: Path, tmp_path: Path
) -> None:
    await fleet.join("here", jurisdiction="EU")
    await fleet.join("there", jurisdiction="US")
    await fleet.join("aside", jurisdiction="EU", cordoned=True)
    await fleet.site("nobody", jurisdiction="EU")
    selector = {"matchLabels": {"test": fleet.id}}
    await fleet.apply(
        "digits", await shelf.bundle(), placement={"siteSelector": selector, "jurisdictions": ["EU"]}
    )
    await fleet.ready("digits")
    assert (await fleet.model("digits"))["status"]["bundle"]["variants"][0]["sizeBytes"] > 0

    wanted = {
        "here": "Healthy",
        "there": "JurisdictionMismatch",
        "aside": "Cordoned",
        "nobody": "NotJoined",
    }
    dumped = await run(api_server, "dump")
    assert dumped.exit_code == 0, dumped.output
    file = tmp_path / "dump.yaml"
    file.write_text(dumped.output)
    asks = ("explain", "model", "digits", "-n", fleet.namespace)
    for short, standing in wanted.items():
        line = f"EdgeModel digits at site {fleet.name(short)}: {standing}"
        live = await run(api_server, *asks, "--site", fleet.name(short))
        assert live.output.startswith(line), live.output
        again = CliRunner().invoke(cli, [*asks, "--site", fleet.name(short), "-f", str(file)])
        assert again.output == live.output
    assert await fleet.order("there", "digits") is None
    page = (await run(api_server, *asks)).output
    assert "is ready: Complete" in page
    assert "1 Cordoned, 1 Healthy, 1 JurisdictionMismatch, 1 NotJoined" in page
    site = (await run(api_server, "explain", "site", fleet.name("there"))).output
    assert f"{fleet.namespace}/digits" in site
    assert "spec.jurisdiction is US" in site
    unknown = await run(api_server, *asks, "--site", "atlantis")
    assert unknown.exit_code == 1
    assert "there is no EdgeSite named atlantis" in unknown.output


async def test_what_is_planned_is_what_happens(
    fleet: Fleet, shelf: Shelf, api_server: Path, tmp_path: Path
) -> None:
    await fleet.joined("a", "b", "c")
    waves = [{"name": "lab", "siteSelector": {"matchLabels": {"site": "b"}}}, {"name": "rest"}]
    first = await shelf.bundle()
    file = written(fleet, tmp_path, first, rollout={"waves": waves})
    flags = ("--plain-http", "-o", "json")

    new = await run(api_server, "plan", "-f", str(file), *flags)

    assert new.exit_code == 0, new.output
    (planned,) = json.loads(new.output)
    assert (planned["course"], planned["rollout"], planned["attempt"]) == ("Start", "digits-1", 1)
    foretold = {item["name"]: item["sites"] for item in planned["waves"]}
    assert foretold == {"lab": [fleet.name("b")], "rest": [fleet.name("a"), fleet.name("c")]}
    sizes = {item["pullBytes"] for item in planned["sites"]}
    assert sizes == {planned["sites"][0]["totalBytes"]}, "nothing serves yet, so all is pulled"
    assert await fleet.rollouts("digits") == [], "a plan writes nothing"

    await fleet.apply("digits", first, rollout={"waves": waves})
    await fleet.ready("digits")
    for short, wave in (("a", "rest"), ("b", "lab"), ("c", "rest")):
        order = await fleet.order(short, "digits")
        assert order is not None
        assert order["spec"]["wave"] == wave
    (same,) = json.loads((await run(api_server, "plan", "-f", str(file), *flags)).output)
    assert same["course"] == "Follow"
    assert same["message"] == "no new revision: its rollout ended as Complete"

    only_b = {"siteSelector": {"matchLabels": {"site": "b"}}}
    narrowed = written(fleet, tmp_path, first, placement=only_b)
    (fewer,) = json.loads((await run(api_server, "plan", "-f", str(narrowed), *flags)).output)
    assert fewer["removed"] == [fleet.name("a"), fleet.name("c")]
    assert fewer["removalNeedsApproval"] is True
    text = (await run(api_server, "plan", "-f", str(narrowed), "--plain-http")).output
    assert "waits for consent" in text


async def test_a_plan_says_what_the_api_server_or_the_registry_would_refuse(
    fleet: Fleet, shelf: Shelf, api_server: Path, tmp_path: Path
) -> None:
    await fleet.joined("a")
    wrong = written(
        fleet, tmp_path, await shelf.bundle(), placement={"siteSelector": {}, "jurisdictions": ["eu"]}
    )

    refused = await run(api_server, "plan", "-f", str(wrong), "--plain-http")

    assert refused.exit_code == 1
    assert "must be the name of a jurisdiction" in refused.output
    typo = written(fleet, tmp_path, await shelf.bundle(), plaecment={})
    refused = await run(api_server, "plan", "-f", str(typo), "--plain-http")
    assert refused.exit_code == 1
    assert 'unknown field "spec.plaecment"' in refused.output
    unknown = written(fleet, tmp_path, await shelf.bundle(), variants=["int4"])
    refused = await run(api_server, "plan", "-f", str(unknown), "--plain-http")
    assert refused.exit_code == 1
    assert "the bundle has no variant 'int4'" in refused.output
    away = written(fleet, tmp_path, await shelf.unreachable())
    noted = await run(api_server, "plan", "-f", str(away), "--plain-http")
    assert noted.exit_code == 0, noted.output
    assert "what sites would pull is not known" in noted.output


def watching(kubeconfig: Path, namespace: str) -> "subprocess.Popen[str]":
    """`edgefleet rollout watch digits` in a process of its own."""
    # a shell that runs the tests in the background has Ctrl-C ignored, and children inherit that
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heard}; from edgefleet.cli.main import main; main()"
    command = [sys.executable, "-c", code, "rollout", "watch", "digits", "-n", namespace]
    return subprocess.Popen(
        [*command, "--kubeconfig", str(kubeconfig)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


async def says(process: "subprocess.Popen[str]", text: str) -> None:
    """Wait for a line."""

    def read() -> str:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if text in line:
                return ""
        return "".join(seen)

    missing = await asyncio.wait_for(asyncio.to_thread(read), 60)
    assert not missing, f"{text!r} is not in {missing}"


async def test_a_rollout_is_watched_until_it_ends_and_the_exit_code_says_how(
    fleet: Fleet, shelf: Shelf, api_server: Path
) -> None:
    await fleet.joined("a", "b")
    waves = [{"name": "lab", "limit": 1}, {"name": "rest", "approval": True}]
    await fleet.apply("digits", await shelf.bundle(), rollout={"waves": waves})
    await fleet.until("digits", "Reconciling", "True", "WaitingApproval")
    watch = watching(api_server, fleet.namespace)
    await says(watch, "digits-1 WaitingApproval: wave rest waits for approval")
    done = await run(api_server, "rollout", "approve", "digits", "--wave", "rest", "-n", fleet.namespace)
    assert done.exit_code == 0, done.output

    said, _ = await asyncio.to_thread(watch.communicate, timeout=60)

    assert watch.returncode == 0, said
    assert "digits-1 Complete" in said
    assert f"site {fleet.name('b')} Serving" in said

    await fleet.apply("digits", await shelf.bundle(), rollout={"waves": waves})
    await fleet.until("digits", "Reconciling", "True", "WaitingApproval")
    stopped, watch = watching(api_server, fleet.namespace), watching(api_server, fleet.namespace)
    await says(stopped, "digits-2 WaitingApproval")
    await says(watch, "digits-2 WaitingApproval")
    stopped.send_signal(signal.SIGINT)
    await asyncio.to_thread(stopped.communicate, timeout=30)
    assert stopped.returncode == 130
    aborted = await run(api_server, "rollout", "abort", "digits", "-n", fleet.namespace)
    assert aborted.exit_code == 0, aborted.output
    said, _ = await asyncio.to_thread(watch.communicate, timeout=60)
    assert watch.returncode == 1, said
    assert "digits-2 Aborted" in said
    assert len(await fleet.api.list(kinds.EDGE_ROLLOUT, fleet.namespace)) == 2
