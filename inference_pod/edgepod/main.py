"""The command line: `edgepod serve` and `edgepod selftest`."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import edgepod
from edgepod.contract import METRICS

_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?\Z")


class UsageError(Exception):
    """Arguments that do not go together."""


def main() -> None:
    """Entry point. Exits with the command's status; 2 for wrong arguments."""
    status = 1
    try:
        status = run(sys.argv[1:])
    except Exception:
        logging.getLogger("edgepod").exception("edgepod failed")
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit: that would wait for a thread in which a model may loop for ever, and end badly while one loads.
    os._exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run a command; returns its exit status. Raises SystemExit for wrong arguments."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("uvicorn").setLevel(
        logging.ERROR
    )  # a bad request is the caller's matter, not the log's
    try:
        _check_source(options)
        return _serve(options) if options.command == "serve" else _selftest(options)
    except UsageError as error:
        parser.error(str(error))


def _check_source(options: argparse.Namespace) -> None:
    if bool(options.model) == bool(options.store):
        raise UsageError("say what to serve: either a model file, or --store with --serving")
    for name in ("store", "agent"):
        if not re.match(r"\Z|https?://[^/]", getattr(options, name, "")):
            raise UsageError(f"--{name} must be an http:// or https:// URL, not {getattr(options, name)!r}")
    if options.store and not options.serving:
        raise UsageError("--store needs --serving sha256:…, the digest of the serving document")


def _serve(options: argparse.Namespace) -> int:
    if bool(options.agent) != bool(options.workload):
        raise UsageError("--agent and --workload go together")
    name = options.name or (options.model.stem if options.model else "model")
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} is no name for a model (letters, digits, '.', '_', '-'): give one with --name"
        )

    from edgepod import loading, serve  # after the arguments are known to be good: importing takes 0.2 s
    from edgepod.dataplane import Identity

    source: loading.Local | loading.Remote
    if options.model is not None:
        source = loading.Local(
            options.model, Identity(name, codec=options.codec, min_bytes=options.min_bytes)
        )
    else:
        source = loading.Remote(options.store, options.serving, options.cache)
    return serve.run(
        serve.Options(
            source=source,
            host=options.host,
            port=options.port,
            agent=options.agent,
            workload=options.workload,
            max_requests=options.max_requests,
            run_timeout=options.timeout,
        )
    )


def _selftest(options: argparse.Namespace) -> int:
    from edgepod import selftest

    return selftest.run(
        selftest.Options(
            min_agreement=options.min_agreement,
            timeout=options.timeout,
            fetch_timeout=options.fetch_timeout,
            memory_bytes=None if options.memory is None else options.memory * 1024 * 1024,
            model=options.model,
            golden=options.golden,
            metric=options.metric,
            rtol=options.rtol,
            atol=options.atol,
            store=options.store,
            serving=options.serving,
            cache=options.cache,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "edgepod", description="Serve an ONNX model over the Open Inference Protocol v2.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"edgepod {edgepod.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a model", allow_abbrev=False)
    _add_source(serve)
    serve.add_argument(
        "--name", default="", help="name in the protocol (default: the file's name without .onnx)"
    )
    serve.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all)")  # noqa: S104
    serve.add_argument(
        "--port", type=_port, default=8080, help="port to listen on; 0: any free one (default: 8080)"
    )
    serve.add_argument(
        "--codec", choices=("lz4", "none"), default="lz4", help="for outputs, where callers ask for it"
    )
    serve.add_argument(
        "--min-bytes", type=_count, default=1024, help="smaller outputs are not compressed (default: 1024)"
    )
    serve.add_argument(
        "--agent", default="", metavar="URL", help="the site's agent, which shares traffic with canaries"
    )
    serve.add_argument(
        "--workload", default="", metavar="NAME", help="name of this pod's Deployment, for the agent"
    )
    serve.add_argument(
        "--max-requests", type=_count, default=64, help="under way at a time; more get 503 (default: 64)"
    )
    serve.add_argument(
        "--timeout", type=_seconds, default=30.0, help="longest run of the model, seconds (default: 30)"
    )
    test = commands.add_parser(
        "selftest", help="run a model's golden set on this machine", allow_abbrev=False
    )
    _add_source(test)
    test.add_argument("--golden", type=Path, metavar="NPZ", help="golden set for a model file")
    test.add_argument(
        "--metric", choices=METRICS, default=METRICS[0], help="how outputs are compared (default: top1)"
    )
    test.add_argument("--rtol", type=float, default=0.0, help="for the metric close")
    test.add_argument("--atol", type=float, default=0.0, help="for the metric close")
    test.add_argument(
        "--min-agreement", type=_share, default=0.95, help="share of outputs that must agree, 0 to 1"
    )
    test.add_argument(
        "--memory",
        type=_count,
        metavar="MIB",
        help="most the model may take (default: what the container has)",
    )
    test.add_argument(
        "--timeout", type=_seconds, default=120.0, help="for loading and all runs, seconds (default: 120)"
    )
    test.add_argument(
        "--fetch-timeout", type=_seconds, default=60.0, help="for the files, seconds (default: 60)"
    )
    return parser


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", nargs="?", type=Path, metavar="MODEL.onnx", help="a single-file ONNX model")
    command.add_argument("--store", default="", metavar="URL", help="the site's store, instead of a file")
    command.add_argument(
        "--serving", default="", metavar="DIGEST", help="sha256:… of the serving document in the store"
    )
    command.add_argument(
        "--cache", type=Path, default=Path("/model"), help="folder for files of the store (default: /model)"
    )


def _port(text: str) -> int:
    return int(_number(text, 0, 65535))


def _count(text: str) -> int:
    return int(_number(text, 1, 1 << 40))


def _share(text: str) -> float:
    return _number(text, 0, 1)


def _seconds(text: str) -> float:
    return _number(text, 0.01, 86400)


def _number(text: str, low: float, high: float) -> float:
    value = float(text)
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
    return value


if __name__ == "__main__":
    main()
