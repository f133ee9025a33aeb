"""The little of the OCI distribution protocol that bundles need."""

from typing import Self

from edgefleet.bundle.options import RegistryOptions


class Registry:
    """A client for registries."""

    def __init__(self, options: RegistryOptions) -> None:
        """Remember the options."""
        self.options = options

    async def __aenter__(self) -> Self:
        """Open."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
