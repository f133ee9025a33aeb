"""`python -m demo [tell|images|down]`: what the Makefile calls."""

import argparse
import os
import sys
import time

from demo import bundles, images, places, removing
from demo.cluster import ROOT, Cluster, CommandError, UnseenError, tool
from demo.fleet import MODELS, Fleet
from demo.report import Report
from demo.story import MODEL, NAMESPACE, Story, StoryError
from demo.traffic import Traffic
from demo.view import open_view

REPORT = ROOT / "build" / "demo-report.json"


def tell() -> int:
    """Set everything up, tell the story, say how to look around."""
    began = time.monotonic()
    with open_view() as view:
        fleet = places.find(os.environ, view.say)
        fleet.install(view.say)
        view.say("training four models, quantizing, signing and pushing them")
        made = bundles.build_all(fleet.keys / "demo.key", fleet.registry, plain_http=fleet.plain_http)
        view.names = {bundle.digest: name for name, bundle in made.items()}
        story = Story(fleet, callers(fleet), made, view)
        story.begin(bundles.FOLDER / "traffic.npz")
        report = story.tell(REPORT)
    print(summary(report))
    print(looking_around(fleet, time.monotonic() - began))
    return 1 if any(step.requests.failed for step in report.steps) else 0


def callers(fleet: Fleet) -> Traffic:
    """Callers of the story's model, inside each site."""
    service = f"{NAMESPACE}-{MODEL}.{MODELS}.svc"
    return Traffic(fleet.sites, fleet.images.edgepod, service, MODEL)


def summary(report: Report) -> str:
    """The report as a small table."""
    lines = ["", "step  outcome      seconds  requests  failed  lz4 saved  pulled"]
    for step in report.steps:
        saved = 1 - step.bytes.after_lz4 / step.bytes.before_lz4 if step.bytes.before_lz4 else 0.0
        lines.append(
            f"{step.name:4}  {step.outcome:11}  {step.seconds:7.1f}  {step.requests.sent:8}  {step.requests.failed:6}"
            f"  {saved:9.0%}  {step.bytes.pulled} bytes"
        )
    memory = report.memory_mib
    lines.append(f"resident: operator {memory.operator} MiB, agent {memory.agent} MiB, pod {memory.pod} MiB")
    return "\n".join(lines)


def looking_around(fleet: Fleet, seconds: float) -> str:
    """What to type next."""
    site, cluster = next(iter(fleet.sites.items()))
    found = tool("kubectl")  # on a machine without one it is a part of localkube's program
    kubectl = "kubectl" if len(found) == 1 else " ".join(found)
    return f"""
Done in {seconds:.0f} s; the report is {REPORT.relative_to(ROOT)}. The clusters stay up. Look around:

    export KUBECONFIG={fleet.hub.kubeconfig}
    {kubectl}{_context(fleet.hub)} get efm,efs,efr,efd,efa -A
    .venv/bin/edgefleet explain model {MODEL} -n {NAMESPACE}{_context(fleet.hub)}
    KUBECONFIG={cluster.kubeconfig} {kubectl}{_context(cluster)} get efd,pods,svc -n {MODELS}     # inside {site}

and remove everything with `make demo-down`{" and the same variables" if fleet.hub.context else ""}."""


def _context(cluster: Cluster) -> str:
    return f" --context {cluster.context}" if cluster.context else ""


def main() -> int:
    """Run what was asked for; what goes wrong on the way is told without a traceback."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("tell", help="the story (default)")
    one = commands.add_parser("images", help="build both images")
    one.add_argument("--push", metavar="REGISTRY/PREFIX", default="", help="push them there")
    commands.add_parser("down", help="take the demo off clusters that localkube did not make")
    options = parser.parse_args()
    try:
        if options.command == "down":
            removing.remove(os.environ, print)
            return 0
        return images.main(options.push) if options.command == "images" else tell()
    except (CommandError, StoryError, UnseenError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\ndemo: stopped. The clusters are up: `make demo` goes on, `make demo-down` removes them",
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
