"""One line an event: time, level, logger, a constant message, then key=value."""

import logging
from datetime import UTC, datetime
from typing import Final

from typing_extensions import override

_PLAIN: Final = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message",
    "asctime",
    "settings",  # kopf's own
}


class Line(logging.Formatter):
    """Writes what was given as `extra` behind the message."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = "".join(
            f" {key}={str(value)!r}" if " " in str(value) else f" {key}={value}"
            for key, value in record.__dict__.items()
            if key not in _PLAIN and not key.startswith("k8s_")
        )
        line = f"{moment[:-6]}Z {record.levelname:<7} {record.name}: {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure(*, verbose: bool) -> None:
    """Send all logs to stderr in this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(Line())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
