"""What keeps a long bench honest: a phase has its time, a server that ended says how, and there is room for files."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from edgefleet.kube import errors

from bench import open_files
from bench.phases import Phases, UnfinishedError
from bench.servers import Servers
from bench.simulator import source_of

ROOT = Path(__file__).parents[2]


async def never() -> bool:
    return False


async def test_a_phase_that_is_not_done_in_its_time_says_what_it_waited_for_and_how_far_it_was() -> None:
    bench = Phases(box=0.2)

    async def work() -> None:
        bench.progress["placed"] = 7
        await bench.until(never, "every site has its place", every=0.01)

    with pytest.raises(UnfinishedError):
        await bench.phase("seed", work())
    told = bench.figures["unfinished"]
    assert told["phase"] == "seed"
    assert told["why"] == "every site has its place: not within 0 s"
    assert told["placed"] == 7


async def test_a_phase_that_is_done_leaves_its_figures_alone() -> None:
    bench = Phases(box=5)

    async def work() -> None:
        bench.figures["seed_s"] = 1.0

    await bench.phase("seed", work())
    assert bench.figures == {"seed_s": 1.0}


async def test_a_busy_api_server_is_asked_again() -> None:
    bench = Phases(box=5)
    answers = iter([errors.Unreachable("no answer"), errors.TooMany("busy"), True])

    async def done() -> bool:
        answer = next(answers)
        if isinstance(answer, errors.ApiError):
            raise answer
        return answer

    await bench.phase("seed", bench.until(done, "it answers", every=0.01))
    assert next(answers, None) is None


async def test_a_phase_says_which_server_ended_rather_than_what_failed_because_of_it() -> None:
    class Dying(Phases):
        def gone(self) -> dict[str, Any]:
            dead = time.monotonic() > began + 0.1
            return {"kube-apiserver": {"how": "killed by SIGKILL", "last": ["x"]}} if dead else {}

    began = time.monotonic()
    bench = Dying(box=30)

    async def work() -> None:
        raise errors.Unreachable("GET /: connection refused")

    with pytest.raises(UnfinishedError):
        await bench.phase("first", work())
    told = bench.figures["unfinished"]
    assert told["why"] == "kube-apiserver ended"
    assert told["ended"]["kube-apiserver"]["how"] == "killed by SIGKILL"


async def test_a_mistake_of_our_own_is_told_as_such() -> None:
    bench = Phases(box=30)

    async def work() -> None:
        raise KeyError("oops")

    with pytest.raises(UnfinishedError):
        await bench.phase("first", work())
    assert bench.figures["unfinished"]["why"] == "KeyError: 'oops'"


async def test_an_interrupted_phase_is_told_as_such() -> None:
    bench = Phases(box=30)
    running = asyncio.create_task(bench.phase("seed", bench.until(never, "nothing")))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bench.figures["unfinished"]["why"] == "interrupted"


DAEMON = "import os, sys, time; os.write(1, b'it goes well'); time.sleep(60)"
ADOPTING = f"""
import pathlib, signal, subprocess, sys, time
from bench import servers
servers.adopt()
home = pathlib.Path(sys.argv[1])
start = '''import subprocess, sys; from localkube import processes; import pathlib
processes.start(pathlib.Path(sys.argv[1]), "kube-apiserver", [sys.executable, "-c", {DAEMON!r}])'''
subprocess.run([sys.executable, "-c", start, str(home)], check=True)
seen = servers.Servers.of(home)
assert seen.look() == {{}}, seen.look()
while not seen.last_words("kube-apiserver"):
    time.sleep(0.01)
import os; os.kill(seen.pids["kube-apiserver"], signal.SIGKILL)
while not seen.look():
    time.sleep(0.01)
print(seen.look(), seen.last_words("kube-apiserver"))
"""


def test_the_exit_status_of_a_daemon_that_another_command_started_is_known(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ADOPTING, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "{'kube-apiserver': 'killed by SIGKILL'} ['it goes well']"


def test_a_server_that_is_not_ours_is_seen_to_end_all_the_same(tmp_path: Path) -> None:
    servers = Servers(tmp_path, {"kine": 2**22 + 1})
    assert "exit status went" in servers.look()["kine"]


def test_room_for_files_is_made_or_refused_with_advice() -> None:
    ask = "import resource, sys; from bench import open_files as f; r = resource; n = r.RLIMIT_NOFILE\n"
    ask += (
        "r.setrlimit(n, (64, 128)); f.A_SITE, f.BESIDES = 1, {besides}; print(f.make_room(1), r.getrlimit(n))"
    )

    def told(besides: int) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", ask.format(besides=besides)]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert told(99).stdout.strip() == "100 (100, 128)", "the soft limit is our own to raise"
    refused = told(2**30)
    assert refused.returncode == 1
    assert "ulimit -Hn" in refused.stderr


def test_ten_thousand_sites_have_room() -> None:
    assert open_files.needed(10_000) == 34_096


def test_no_two_sites_share_an_address() -> None:
    addresses = {source_of(number) for number in range(100_000)}
    assert len(addresses) == 100_000
    assert all(
        0 < int(part) < 255 or index == 2 for a in addresses for index, part in enumerate(a.split("."))
    )
