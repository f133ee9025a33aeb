"""References name a host, a repository and a digest, and nothing that could be taken for something else."""

import pytest
from edgefleet.bundle import InvalidReference, Reference, parse, parse_pinned

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        (f"oci://ghcr.io/acme/model@{DIGEST}", Reference("ghcr.io", "acme/model", digest=DIGEST)),
        ("oci://localhost:5000/m:v1", Reference("localhost:5000", "m", tag="v1")),
        ("oci://198.18.0.1:5000/a/b/c", Reference("198.18.0.1:5000", "a/b/c")),
        ("oci://[::1]:5000/m:v1", Reference("[::1]:5000", "m", tag="v1")),
    ],
)
def test_a_reference_is_read_and_written_the_same(text: str, reference: Reference) -> None:
    assert parse(text) == reference
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ghcr.io/acme/model",
        f"https://ghcr.io/acme/model@{DIGEST}",
        f"oci://user:secret@ghcr.io/acme/model@{DIGEST}",
        f"oci://ghcr.io/acme/model:v1@{DIGEST}",
        f"oci://ghcr.io/Acme/model@{DIGEST}",
        f"oci://ghcr.io/../model@{DIGEST}",
        f"oci://ghcr.io/model@{DIGEST}\n",
        f"oci://ghcr.io/model@{DIGEST.upper()}",
        f"oci://ghcr.io/model@{DIGEST[:-1]}",
        f"oci://ghcr.io/model@md5:{'0' * 32}",
        f"oci://ghcr.io/model?x=1@{DIGEST}",
        f"oci://ghcr.io/model#@{DIGEST}",
        f"oci://ghcr.io:port/model@{DIGEST}",
        f"oci:///model@{DIGEST}",
        "oci://" + "a" * 5000,
    ],
)
def test_what_is_no_reference_is_refused_with_the_form_it_should_have(text: str) -> None:
    with pytest.raises(InvalidReference, match="oci://host"):
        parse(text)


@pytest.mark.parametrize("text", ["oci://localhost:5000/m:v1", "oci://localhost:5000/m"])
def test_where_a_digest_is_needed_its_lack_is_explained(text: str) -> None:
    with pytest.raises(InvalidReference, match="oci://localhost:5000/m@sha256"):
        parse_pinned(text)
