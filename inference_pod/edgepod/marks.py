"""`override`, which the standard library has only from Python 3.12 on."""

from typing import TYPE_CHECKING, TypeVar

_T = TypeVar("_T")

if TYPE_CHECKING:
    from typing_extensions import override
else:

    def override(method: _T) -> _T:
        """Mark a method as one that replaces its base class's; the type checker holds it to that."""
        return method


__all__ = ["override"]
