"""Serves the site's store to its pods: whole files, by digest, by range. Needs neither hub nor API server.

Runs in a container of its own beside the agent, so that pods can start while the agent does not.

    GET /sha256/<64 hex>        the file; a pod checks the digest again
    GET /healthz
"""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

_HEX: Final = re.compile(r"[0-9a-f]{64}")


def application(root: Path) -> web.Application:
    """Return the server over the store in `root`."""
    blobs = root / "blobs" / "sha256"

    async def blob(request: web.Request) -> web.StreamResponse:
        name = request.match_info["hex"]
        if not _HEX.fullmatch(name):
            raise web.HTTPBadRequest(text="the path must be /sha256/ and 64 lower-case hex digits\n")
        path = blobs / name
        if not path.is_file():
            raise web.HTTPNotFound(text=f"sha256:{name} is not in the store\n")
        headers = {"Content-Type": "application/octet-stream", "Cache-Control": "immutable"}
        return web.FileResponse(path, chunk_size=256 * 1024, headers=headers)

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application(client_max_size=1024)
    app.router.add_get("/sha256/{hex}", blob)
    app.router.add_get("/healthz", health)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="edgefleet-store", description="The files of one edgefleet site.")
    parser.add_argument(
        "--root", type=Path, default=Path(os.environ.get("EDGEFLEET_STORE", "/var/lib/edgefleet"))
    )
    parser.add_argument("--host", default=None)
    parser.add_argument("--port", type=int, default=8080)
    flags = parser.parse_args(arguments)
    web.run_app(application(flags.root), host=flags.host, port=flags.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
