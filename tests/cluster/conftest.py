"""What every test against an API server may use."""

from support.cluster import api_server, site_api_server

__all__ = ["api_server", "site_api_server"]
