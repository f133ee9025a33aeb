"""Addresses of bundles: `oci://host[:port]/repository@sha256:<64 hex>`, or with `:tag` for people."""

import re
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from edgefleet.bundle.errors import InvalidReference

_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])"
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_REFERENCE: Final = re.compile(
    rf"\Aoci://(?P<host>{_HOST}(?::[0-9]{{1,5}})?)/(?P<repository>{_PATH})"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}))?\Z"
)
_LONGEST: Final = 1024


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a bundle is. At most one of `digest` and `tag` is set."""

    host: str
    """`host` or `host:port`."""
    repository: str
    digest: str = ""
    tag: str = ""

    @override
    def __str__(self) -> str:
        """Write it the way it was read."""
        end = f"@{self.digest}" if self.digest else f":{self.tag}" if self.tag else ""
        return f"oci://{self.host}/{self.repository}{end}"

    def pinned(self, digest: str) -> "Reference":
        """Return the same place with a digest."""
        return Reference(self.host, self.repository, digest=digest)


def parse(text: str) -> Reference:
    """Read a reference with a digest, a tag or neither. Raises InvalidReference."""
    match = _REFERENCE.match(text) if len(text) <= _LONGEST else None
    if match is None:
        raise InvalidReference(
            f"{text[:200]!r} is no bundle reference; it must look like oci://host[:port]/repository@sha256:<64 hex digits>"
        )
    return Reference(match["host"], match["repository"], match["digest"] or "", match["tag"] or "")


def parse_pinned(text: str) -> Reference:
    """Read a reference that must have a digest. Raises InvalidReference."""
    reference = parse(text)
    if not reference.digest:
        place = Reference(reference.host, reference.repository)
        raise InvalidReference(
            f"{text!r} has no digest, and a tag may move: write {place}@sha256:<64 hex digits>"
        )
    return reference
