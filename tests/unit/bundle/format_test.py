"""bundle.json and manifest are read so strictly that two readers cannot understand them in two ways."""

import json
from typing import Any

import pytest
from edgefleet.bundle import BundleError
from edgefleet.bundle import format as fmt
from support.bundles import forge

GOOD = forge()


def changed(*path: str | int, to: Any) -> bytes:
    document = json.loads(GOOD.config)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return json.dumps(document).encode()


def test_a_good_bundle_is_read_and_written_the_same() -> None:
    config = fmt.parse_bundle(GOOD.config)
    assert config.name == "demo"
    assert fmt.parse_bundle(fmt.canonical(config)) == config
    assert fmt.canonical(fmt.parse_bundle(fmt.canonical(config))) == fmt.canonical(config)


@pytest.mark.parametrize(
    ("data", "names"),
    {
        "no JSON": (b"{", "strict JSON"),
        "not UTF-8": (b"\xff\xfe{}", "strict JSON"),
        "a list": (b"[]", "object"),
        "a key twice": (
            GOOD.config.replace(b'"version":1', b'"version":2,"version":1'),
            "'version' appears twice",
        ),
        "a key twice deep inside": (
            GOOD.config.replace(b'"samples":1', b'"samples":9,"samples":1'),
            "'samples' appears twice",
        ),
        "an unknown field": (changed("extra", to=1), "extra"),
        "an unknown field in a variant": (changed("variants", 0, "extra", to=1), "variants"),
        "NaN": (GOOD.config.replace(b'"agreement":1.0', b'"agreement":NaN'), "NaN"),
        "a float out of range": (GOOD.config.replace(b'"agreement":1.0', b'"agreement":1e999'), "1e999"),
        "an integer of 5000 digits": (
            GOOD.config.replace(b'"version":1', b'"version":' + b"9" * 5000),
            "JSON",
        ),
        "half a surrogate pair": (GOOD.config.replace(b'"demo"', b'"\\ud800"'), "surrogates"),
        "nested too deeply": (b'{"format":' + b"[" * 20000 + b"]" * 20000 + b"}", "deeply"),
        "format 0": (changed("format", to=0), "format"),
        "format as a text": (changed("format", to="1"), "format"),
        "version 0": (changed("version", to=0), "version"),
        "version as a float": (changed("version", to=1.5), "version"),
        "version beyond what JSON can hold": (changed("version", to=2**63), "version"),
        "an upper-case name": (changed("name", to="Demo"), "name"),
        "a name with a path": (changed("name", to="../demo"), "name"),
        "a name with a line break": (changed("name", to="demo\n"), "name"),
        "no variant": (changed("variants", to=[]), "variants"),
        "nine variants": (changed("variants", to=json.loads(GOOD.config)["variants"] * 5), "variants"),
        "two variants of one name": (
            changed("variants", to=json.loads(GOOD.config)["variants"][:1] * 2),
            "same name",
        ),
        "a digest of another algorithm": (
            changed("golden", "file", "digest", to="md5:" + "0" * 32),
            "digest",
        ),
        "an upper-case digest": (changed("golden", "file", "digest", to="sha256:" + "A" * 64), "digest"),
        "a short digest": (changed("golden", "file", "digest", to="sha256:" + "a" * 63), "digest"),
        "a digest with a line break": (
            changed("golden", "file", "digest", to="sha256:" + "a" * 64 + "\n"),
            "digest",
        ),
        "a negative size": (changed("golden", "file", "size", to=-1), "size"),
        "an empty file": (changed("golden", "file", "size", to=0), "size"),
        "a file beyond 2 GiB": (changed("golden", "file", "size", to=2**31), "size"),
        "an unknown metric": (changed("golden", "metric", to="vibes"), "metric"),
        "an unknown datatype": (changed("inputs", 0, "datatype", to="FP33"), "datatype"),
        "a huge dimension": (changed("inputs", 0, "shape", to=[2**40]), "shape"),
        "no input": (changed("inputs", to=[]), "inputs"),
        "an accuracy above 1": (changed("variants", 0, "accuracy", to=1.01), "accuracy"),
        "a time that is none": (changed("created", to="yesterday"), "created"),
        "a wrong type": (changed("variants", to={}), "variants"),
        "null for what is needed": (changed("golden", to=None), "golden"),
        "too large": (GOOD.config + b" " * fmt.DOCUMENT_CAP, "bytes"),
    }.values(),
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_a_bundle_json_that_is_not_exactly_right_is_refused_by_name(data: bytes, names: str) -> None:
    with pytest.raises(BundleError, match=names) as caught:
        fmt.parse_bundle(data)
    assert caught.value.reason in {"Malformed", "TooLarge"}
    assert not caught.value.environment


def test_a_bundle_for_a_newer_edgefleet_says_so_whatever_else_is_in_it() -> None:
    with pytest.raises(BundleError, match="upgrade") as caught:
        fmt.parse_bundle(b'{"format": 2, "new": true}')
    assert caught.value.reason == "UnsupportedFormat"


def test_the_report_may_grow_without_a_new_format() -> None:
    assert fmt.parse_bundle(changed("report", "novelty", to=[1])).name == "demo"


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        pytest.param(b'{"mediaType": "text/html"}', "NotABundle", id="another-media-type"),
        pytest.param(
            forge(edit_manifest=lambda m: m.pop("artifactType")).manifest, "NotABundle", id="container-image"
        ),
        pytest.param(
            forge(edit_manifest=lambda m: m["config"].update(mediaType="x")).manifest,
            "NotABundle",
            id="another-artifact",
        ),
        pytest.param(
            forge(edit_manifest=lambda m: m["config"].update(digest="sha512:00")).manifest,
            "Malformed",
            id="unknown-digest",
        ),
        pytest.param(
            forge(edit_manifest=lambda m: m["config"].update(size="7")).manifest,
            "Malformed",
            id="size-as-text",
        ),
        pytest.param(
            forge(edit_manifest=lambda m: m.update(layers=m["layers"] * 30)).manifest,
            "Malformed",
            id="too-many-layers",
        ),
        pytest.param(b"[]", "NotABundle", id="a-list"),
        pytest.param(b"<!doctype html>", "Malformed", id="a-web-page"),
        pytest.param(b" " * (fmt.DOCUMENT_CAP + 1), "TooLarge", id="too-large"),
    ],
)
def test_a_manifest_that_is_no_bundles_is_refused(manifest: bytes, reason: str) -> None:
    with pytest.raises(BundleError) as caught:
        fmt.parse_manifest(manifest)
    assert caught.value.reason == reason
