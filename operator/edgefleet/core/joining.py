"""Whether a CertificateSigningRequest of a site is approved."""

from edgefleet.core.types import CsrDecision, CsrSeen


def decide_csr(seen: CsrSeen) -> CsrDecision:
    """Approve, deny or ignore a request."""
    raise NotImplementedError
