"""How tests are shared between workers, on a small suite of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NOTE = """
import os, time
from pathlib import Path

def note(name):
    began = time.monotonic()
    time.sleep({seconds})
    line = f"{{name}} {{os.environ['PYTEST_XDIST_WORKER']}} {{began}} {{time.monotonic()}}"
    with Path({log!r}).open("a") as file:
        print(line, file=file)

def test_one(): note("one")
def test_two(): note("two")
def test_three(): note("three")
"""


def run(folder: Path, files: dict[str, float]) -> dict[str, list[tuple[str, float, float]]]:
    """Run files of three tests each, every one so many seconds long: worker, beginning and end of each by file."""
    (folder / "pytest.ini").write_text(
        "[pytest]\npython_files = *_test.py\naddopts = --import-mode=importlib\n"
    )
    (folder / "tests").mkdir()
    (folder / "tests" / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    for name, seconds in files.items():
        path = folder / "tests" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(NOTE.format(seconds=seconds, log=str(folder / path.name) + ".log"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--numprocesses", "2", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for name in files:
        lines = (folder / f"{Path(name).name}.log").read_text().splitlines()
        words = [line.split() for line in lines]
        found[name] = [(worker, float(began), float(ended)) for _, worker, began, ended in words]
        assert len(found[name]) == 3
    return found


@pytest.mark.parametrize("slow", ["cluster/a_test.py", "cluster/b_test.py"])
def test_full_clusters_are_one_worker_s_and_nothing_but_a_last_test_runs_beside_them(
    tmp_path: Path, slow: str
) -> None:
    quick = dict.fromkeys(("unit/u_test.py", "cluster/a_test.py", "cluster/b_test.py"), 0.05)
    found = run(tmp_path, {**quick, slow: 0.4, "e2e/story_test.py": 0.05, "faults/f_test.py": 0.05})
    alone = [*found.pop("e2e/story_test.py"), *found.pop("faults/f_test.py")]
    assert len({worker for worker, _, _ in alone}) == 1
    begins = min(began for _, began, _ in alone)
    beside = [ended for tests in found.values() for _, _, ended in tests if ended > begins]
    assert len(beside) <= 1


def test_a_file_is_one_worker_s_and_two_work_at_a_time(tmp_path: Path) -> None:
    found = run(tmp_path, dict.fromkeys(("cluster/a_test.py", "cluster/b_test.py", "unit/c_test.py"), 0.2))
    workers = [{worker for worker, _, _ in tests} for tests in found.values()]
    assert all(len(each) == 1 for each in workers)
    assert set.union(*workers) == {"gw0", "gw1"}
