"""The operator while its API server cannot be reached, and after."""

import asyncio
import random
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from support import hub, hub_chart
from support.cluster import admin
from support.fake_agent import ca_of
from support.hub import Fleet, Operator, Shelf
from support.proxy import Proxy
from support.weather import Weather

pytestmark = pytest.mark.cluster


async def test_the_operator_outlives_an_api_server_that_is_away_and_does_what_it_missed(
    api_server: Path, shelf: Shelf, tmp_path: Path
) -> None:
    kubeconfig = await hub_chart.install(api_server, tmp_path)
    config = yaml.safe_load(await asyncio.to_thread(kubeconfig.read_text))
    cluster = config["clusters"][0]["cluster"]
    where = urlsplit(cluster["server"])
    assert where.hostname
    assert where.port
    proxy = Proxy(where.hostname, where.port)
    async with proxy.running(), admin(api_server) as api:
        cluster["server"] = f"https://127.0.0.1:{proxy.port}"
        await asyncio.to_thread(kubeconfig.write_text, yaml.safe_dump(config))
        operator = Operator(kubeconfig, shelf, tmp_path / "operator.log")
        async with hub.at_work(operator), Fleet(api) as fleet:
            await fleet.joined("lab")
            await fleet.apply("before", await shelf.bundle())
            await fleet.ready("before")
            order = await fleet.order("lab", "before")

            await proxy.cut()
            late = await shelf.bundle()
            await fleet.apply("during", late)
            await asyncio.sleep(6)
            assert await asyncio.to_thread(operator.page, "/healthz") == "ok\n", (
                "its absence is no illness of ours"
            )
            await proxy.heal()

            await fleet.offered("lab", "during", late)
            await fleet.ready("during", seconds=40)
            after = await fleet.order("lab", "before")
            assert order is not None
            assert after is not None
            assert after["spec"] == order["spec"]


@pytest.mark.timeout(300)
async def test_the_operator_outlives_watches_that_are_refused_and_ends_when_all_are(
    api_server: Path, shelf: Shelf, tmp_path: Path
) -> None:
    """kopf takes a 410 that is no event for the end of everything; so does the operator only when there is no end to it."""
    straight = await hub_chart.install(api_server, tmp_path)
    async with admin(api_server) as api:
        ca = tmp_path / "ca.crt"
        ca.write_bytes(ca_of(await api.connection()))
        weather = Weather(api.server, ca, random.Random(1), refused_kopf=2)
        async with weather.blowing():
            operator = Operator(weather.kubeconfig(straight, tmp_path), shelf, tmp_path / "operator.log")
            async with hub.at_work(operator), Fleet(api) as fleet:
                await fleet.joined("lab")
                await fleet.apply("digits", await shelf.bundle())
                await fleet.ready("digits", seconds=90)
                assert weather.refused_kopf == 0
                assert operator.process is not None
                assert operator.process.poll() is None
                assert "its doors are opened again" in operator.log.read_text()

                weather.refused_kopf = 10**6
            again = Operator(weather.kubeconfig(straight, tmp_path), shelf, tmp_path / "again.log")
            again.start()
            assert again.process is not None
            try:
                assert await asyncio.to_thread(again.process.wait, 120) != 0
            finally:
                again.kill()
            assert "RuntimeError: kopf has ended" in again.log.read_text()
