"""What each CEL rule takes and refuses, as sentences. A row names the field at fault and the rule's words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edgefleet.kube import kinds
from edgefleet.kube.kinds import Kind
from support.crd_examples import BUNDLE, DIGEST
from support.crds import ABSENT, Changes


@dataclass(frozen=True)
class Refused:
    """Changes to the full example, the field the server blames, and its words."""

    changes: Changes
    at: str
    message: str
    before: Changes = field(default_factory=dict)
    """For a rule about a change: what the object was like before it."""


def _field(path: str, value: Any, message: str) -> Refused:
    """One wrong value, blamed on itself."""
    return Refused({path: value}, path, message)


# -- the words of the rules ----------------------------------------------------------------------------
NAME: Final = (
    "metadata.name must start with a lower-case letter, hold only lower-case letters, digits and '-', "
    "not end in '-', and be at most "
)
MODEL_NAME: Final = NAME + "40 characters: names on the sites are made of it"
SITE_NAME: Final = NAME + "50 characters: the site's namespace is named after it"
NOT_A_BUNDLE: Final = "must be oci://host[:port]/repository@sha256:<64 hex digits>: a digest, not a tag"
VARIANT: Final = (
    "must be the name of a variant: lower-case letters, digits, '-', '_', '.', at most 32 characters"
)
JURISDICTION: Final = (
    "must be the name of a jurisdiction: upper-case letters, digits and '-', a letter first, "
    "at most 16 characters, such as EU"
)
LABELS: Final = "must be label keys with label values, such as country: de"
OPERATOR: Final = "In and NotIn need values, Exists and DoesNotExist take none"
QUANTITY: Final = 'must be a Kubernetes quantity above 0, in quotes, such as "250m", "1" or "256Mi"'
DURATION: Final = "must be a duration such as 90s, 5m or 1h30m"
SHARE: Final = "must be a share from 0% to 100%, such as 1% or 99.5%"
ONE_OF: Final = "must have exactly one of shadow and weight"
RISE: Final = "weights must rise from step to step"
OPEN_WAVE: Final = (
    "only the last wave may be without both siteSelector and limit: it takes the sites that are left"
)
REST: Final = "a wave named rest must have neither siteSelector nor limit: it takes the sites that are left"
SITES_1: Final = (
    'must be a number of sites from 1 to 100000 or a percentage above 0% up to 100%, such as 2 or "5%"'
)
SITES_0: Final = (
    'must be a number of sites from 0 to 100000 or a percentage from 0% to 100%, such as 2 or "5%"'
)
SITES_BELOW_ALL: Final = (
    'must be a number of sites from 0 to 100000 or a percentage from 0% to below 100%, such as 2 or "20%"'
)
COHORT_KEY: Final = "must be arch, soc, firmware, variant or a label key"
NO_GROWTH: Final = "every and maxPerMinute must be left out when factor is 1: the rate does not grow"
IMMUTABLE: Final = (
    "is immutable: an EdgeRollout is one attempt; only desired, approvals, finish and direct may change"
)

CRON: Final = "must be cron of five fields with one space between: minute, hour, day of month, month, day of week, such as 0 1 * * *"
BANDWIDTH: Final = 'must be bytes per second of at least 1Ki, in quotes, such as "512Ki" or "2Mi"'
_SCHEDULES: Final = {
    "of six fields": "0 0 1 * * *",
    "of four fields": "0 1 * *",
    "by name": "@daily",
    "with two spaces": "0  1 * * *",
    "of commands": "0 1 * * $(x)",
    "of nothing": "",
}
_LENGTHS: Final = {"under a minute": "59s", "above a month": "745h", "in days": "1d", "of nothing": ""}
_ZONES: Final = {"outside its folder": "../etc/passwd", "with a space": "Europe/New Berlin", "of nothing": ""}

_CANARY: Final = "spec.canary"
_WAVE: Final = "spec.rollout.waves.0"
_COHORTS: Final = "spec.rollout.cohorts"
_RATE: Final = "spec.rollout.rate"
_SHADOW_ONLY: Final = [{"shadow": 100, "duration": "1m"}]


def _selector(base: str, what: str) -> dict[str, Refused]:
    """Rows for a site selector at `base`."""
    one = f"{base}.matchExpressions.0"
    return {
        f"{what}: a label key with a space is refused": _field(f"{base}.matchLabels", {"a b": "c"}, LABELS),
        f"{what}: a label value with a slash is refused": _field(f"{base}.matchLabels", {"a": "b/c"}, LABELS),
        f"{what}: In without values is refused": Refused({f"{one}.values": ABSENT}, one, OPERATOR),
        f"{what}: Exists with values is refused": Refused({f"{one}.operator": "Exists"}, one, OPERATOR),
        f"{what}: an expression on no key is refused": _field(f"{one}.key", "-", "must be a label key"),
        f"{what}: a value that no label can have is refused": _field(
            f"{one}.values.0", "a b", "must be a label value"
        ),
    }


def _each(paths: Mapping[str, str], values: Mapping[str, Any], message: str) -> Iterator[tuple[str, Refused]]:
    for name, path in paths.items():
        for what, value in values.items():
            yield f"{name} {what} is refused", _field(path, value, message)


def _windows(base: str) -> dict[str, Refused]:
    """Rows for the windows of a site."""
    rows: dict[str, Refused] = {}
    for kind in ("download", "update"):
        one = f"{base}.windows.{kind}.0"
        for name, values, message in (
            ("schedule", _SCHEDULES, CRON),
            ("duration", _LENGTHS, "must be a duration from 1m to 744h, such as 4h"),
            ("timeZone", _ZONES, "must be a time zone of the IANA list, such as Europe/Berlin"),
        ):
            rows |= dict(_each({f"a {kind} window's {name}": f"{one}.{name}"}, values, message))
    return rows


def _bandwidth(path: str) -> dict[str, Refused]:
    """Rows for a limit of downloads."""
    values = {
        "of nothing": "0",
        "of a trickle": "1023",
        "with a unit of time": "2Mi/s",
        "of a fraction": "1.5Mi",
        "empty": "",
    }
    return dict(_each({"a bandwidth": path}, values, BANDWIDTH))


_MODEL: Final[dict[str, Refused]] = {
    "a model's name with a dot is refused": Refused({"metadata.name": "a.b"}, "", MODEL_NAME),
    "a model's name that starts with a digit is refused": Refused({"metadata.name": "3d"}, "", MODEL_NAME),
    "a model's name of 41 characters is refused": Refused({"metadata.name": "a" * 41}, "", MODEL_NAME),
    "a bundle by tag is refused": _field(
        "spec.bundle", "oci://registry.example/vision/digits:v1", NOT_A_BUNDLE
    ),
    "a bundle without digest is refused": _field(
        "spec.bundle", "oci://registry.example/vision/digits", NOT_A_BUNDLE
    ),
    "a bundle from a web server is refused": _field(
        "spec.bundle", BUNDLE.replace("oci://", "https://"), NOT_A_BUNDLE
    ),
    "a bundle with a short digest is refused": _field("spec.bundle", BUNDLE[:-1], NOT_A_BUNDLE),
    "a bundle without repository is refused": _field(
        "spec.bundle", f"oci://registry.example@{DIGEST}", NOT_A_BUNDLE
    ),
    "a bundle outside its folder is refused": _field(
        "spec.bundle", f"oci://host/a/../b@{DIGEST}", NOT_A_BUNDLE
    ),
    "a variant named twice is refused": _field(
        "spec.variants", ["int8", "int8"], "must name each variant once"
    ),
    "a variant with a slash is refused": _field("spec.variants.0", "int8/x", VARIANT),
    **_selector("spec.placement.siteSelector", "placement"),
    "a jurisdiction in small letters is refused": _field(
        "spec.placement.jurisdictions.0", "eu", JURISDICTION
    ),
    "a jurisdiction that starts with a digit is refused": _field(
        "spec.placement.jurisdictions.0", "3G", JURISDICTION
    ),
    "an empty jurisdiction is refused": _field("spec.placement.jurisdictions.0", "", JURISDICTION),
    "cpu requested above its limit is refused": Refused(
        {"spec.serving.resources.requests.cpu": "1001m"},
        "spec.serving.resources",
        "requests.cpu must not be above limits.cpu",
    ),
    "memory requested above its limit is refused": Refused(
        {"spec.serving.resources.requests.memory": "257Mi"},
        "spec.serving.resources",
        "requests.memory must not be above limits.memory",
    ),
    **dict(
        _each(
            {
                f"{side} of {what}": f"spec.serving.resources.{side}.{what}"
                for side in ("requests", "limits")
                for what in ("cpu", "memory")
            },
            {"that are words": "much", "of zero": "0", "below zero": "-1", "in exponents": "1e3"},
            QUANTITY,
        )
    ),
    "a size from which not to compress is refused": Refused(
        {"spec.serving.outputCompression.codec": "none"},
        "spec.serving.outputCompression",
        "minBytes must be left out when codec is none: it has no effect there",
    ),
    "agreement without shadow is refused": Refused(
        {f"{_CANARY}.steps": [{"weight": 10, "duration": "1m"}]},
        _CANARY,
        "gates.minAgreement needs a step with shadow: only copied requests are compared",
    ),
    **{
        f"{field} without a step that has traffic is refused": Refused(
            {
                f"{_CANARY}.steps": [],
                f"{_CANARY}.gates": {},
                f"{_CANARY}.gates.{field}": value,
            },
            _CANARY,
            "gates.maxErrorRate, gates.maxP99 and gates.minRequests must be left out where steps is empty, as no "
            "traffic is judged there; gates.minGolden is judged by the self-test",
        )
        for field, value in {"maxErrorRate": "5%", "maxP99": "50ms", "minRequests": 10}.items()
    },
    "waiting for traffic without a step that has any is refused": Refused(
        {f"{_CANARY}.steps": [], f"{_CANARY}.gates": {}, f"{_CANARY}.onNoTraffic": "Hold"},
        _CANARY,
        "onNoTraffic must be left out where steps is empty, as no step waits for traffic there",
    ),
    "a weight that falls is refused": Refused({f"{_CANARY}.steps.2.weight": 5}, f"{_CANARY}.steps", RISE),
    "a weight that stays is refused": Refused({f"{_CANARY}.steps.2.weight": 10}, f"{_CANARY}.steps", RISE),
    "a step with shadow and weight is refused": Refused(
        {f"{_CANARY}.steps.0.weight": 5}, f"{_CANARY}.steps.0", ONE_OF
    ),
    "a step with neither shadow nor weight is refused": Refused(
        {f"{_CANARY}.steps.1.weight": ABSENT}, f"{_CANARY}.steps.1", ONE_OF
    ),
    **dict(
        _each(
            {"a step's duration": f"{_CANARY}.steps.0.duration", "a soak": f"{_WAVE}.soak"},
            {
                "in days": "1d",
                "without unit": "90",
                "below zero": "-5m",
                "of a fraction": "1.5h",
                "of nothing": "",
            },
            DURATION,
        )
    ),
    **dict(
        _each(
            {gate: f"{_CANARY}.gates.{gate}" for gate in ("maxErrorRate", "minAgreement", "minGolden")},
            {"above all": "101%", "without percent sign": "0.01", "below nothing": "-1%"},
            SHARE,
        )
    ),
    "a latency of nothing is refused": _field(
        f"{_CANARY}.gates.maxP99", "0s", "must be a duration above 0, such as 50ms or 1s"
    ),
    "a deadline under a second is refused": _field(
        f"{_CANARY}.progressDeadline", "999ms", "must be a duration of at least 1s, such as 15m"
    ),
    "two waves of one name are refused": Refused(
        {"spec.rollout.waves": [{"name": "lab", "limit": 1}, {"name": "lab"}]},
        "spec.rollout.waves",
        "names of waves must be unique",
    ),
    "an open wave before the last is refused": Refused(
        {"spec.rollout.waves": [{"name": "lab"}, {"name": "all"}]}, "spec.rollout.waves", OPEN_WAVE
    ),
    "a wave named rest with a limit is refused": Refused(
        {"spec.rollout.waves.1.limit": 5}, "spec.rollout.waves", REST
    ),
    "a wave named rest with a selector is refused": Refused(
        {"spec.rollout.waves.1.siteSelector": {}}, "spec.rollout.waves", REST
    ),
    "a wave's name in capitals is refused": _field(
        f"{_WAVE}.name", "Lab", "must be lower-case letters, digits and '-', at most 32 characters"
    ),
    **_selector(f"{_WAVE}.siteSelector", "wave"),
    **dict(
        _each(
            {"a limit": f"{_WAVE}.limit", "success": f"{_WAVE}.minSuccess"},
            {
                "of no site": 0,
                "of zero percent": "0%",
                "of zero in hundredths": "0.00%",
                "above all": "101%",
                "as a number in quotes": "5",
                "too large": 100001,
            },
            SITES_1,
        )
    ),
    **dict(
        _each(
            {"failures of a cohort": f"{_COHORTS}.maxFailures"},
            {"below none": -1, "of all, which never hold": "100%", "above all": "101%", "too many": 100001},
            SITES_BELOW_ALL,
        )
    ),
    **dict(
        _each(
            {"a cohort's key": f"{_COHORTS}.by.1"},
            {"with a space": "a b", "of nothing": "", "with a value": "soc=x", "with two slashes": "a/b/c"},
            COHORT_KEY,
        )
    ),
    "a cohort's key named twice is refused": _field(
        f"{_COHORTS}.by", ["soc", "soc"], "must name each key once"
    ),
    "a rate above its most is refused": Refused(
        {f"{_RATE}.perMinute": 501}, _RATE, "maxPerMinute must not be below perMinute"
    ),
    "steps of a rate that does not grow are refused": Refused(
        {f"{_RATE}": {"perMinute": 5, "factor": 1, "every": 11}}, _RATE, NO_GROWTH
    ),
    "a most of a rate that does not grow is refused": Refused(
        {f"{_RATE}": {"perMinute": 5, "factor": 1, "maxPerMinute": 999}}, _RATE, NO_GROWTH
    ),
    **dict(
        _each(
            {"failures": f"{_WAVE}.maxFailures"},
            {"below none": -1, "above all": "101%", "in thousandths": "0.001%", "too many": 100001},
            SITES_0,
        )
    ),
}

_SITE: Final[dict[str, Refused]] = {
    "a site's jurisdiction in small letters is refused": _field("spec.jurisdiction", "eu", JURISDICTION),
    "a site's name with a dot is refused": Refused({"metadata.name": "a.b"}, "", SITE_NAME),
    "a site's name of 51 characters is refused": Refused({"metadata.name": "a" * 51}, "", SITE_NAME),
    "a normal absence shorter than being away is refused": Refused(
        {"spec.autonomy": "5m"}, "spec", "autonomy must not be shorter than heartbeat.offlineAfter"
    ),
    "being away after one lost beat is refused": Refused(
        {"spec.heartbeat.offlineAfter": "239s"},
        "spec.heartbeat",
        "offlineAfter must be at least twice interval: one lost beat is not an absence",
    ),
    **dict(
        _each(
            {"a beat": "spec.heartbeat.interval"},
            {"too quick": "999ms", "too slow": "61m", "in words": "often"},
            "must be a duration from 1s to 1h, such as 120s",
        )
    ),
    **dict(
        _each(
            {"a silence": "spec.heartbeat.offlineAfter"},
            {"too long": "25h", "in days": "1d"},
            "must be a duration of at most 24h, such as 6m",
        )
    ),
    **dict(
        _each(
            {"an absence": "spec.autonomy"},
            {"too long": "8785h", "in weeks": "1w"},
            "must be a duration of at most 8784h, such as 168h",
        )
    ),
    **_windows("spec"),
    **_bandwidth("spec.bandwidth.limit"),
    "a key in capitals is refused": _field(
        "spec.publicKeySHA256",
        "5A" * 32,
        "must be 64 lower-case hex digits: the SHA-256 of the public key in DER",
    ),
}

_AGENT: Final[dict[str, Refused]] = {
    "a second agent beside the one is refused": Refused(
        {"metadata.name": "other"}, "", "metadata.name must be site: a namespace holds one EdgeAgent"
    ),
    **_windows("spec"),
    **_bandwidth("spec.bandwidthLimit"),
}

_ROLLOUT_NAME: Final = "metadata.name must be <spec.model>-<spec.number>"
REFUSED: Final[dict[Kind, dict[str, Refused]]] = {
    kinds.EDGE_MODEL: _MODEL,
    kinds.EDGE_SITE: _SITE,
    kinds.EDGE_ROLLOUT: {
        "a rollout named after another model is refused": Refused(
            {"metadata.name": "faces-3"}, "", _ROLLOUT_NAME
        ),
        "a rollout with another number is refused": Refused({"metadata.name": "digits-4"}, "", _ROLLOUT_NAME),
        "a rollout without number is refused": Refused({"metadata.name": "digits"}, "", _ROLLOUT_NAME),
    },
    kinds.EDGE_AGENT: _AGENT,
    kinds.EDGE_DEPLOYMENT: {
        "an order named after another model is refused": Refused(
            {"metadata.name": "vision.faces"},
            "",
            "metadata.name must be <spec.model.namespace>.<spec.model.name>",
        ),
        "an order's step with shadow and weight is refused": Refused(
            {f"{_CANARY}.steps.0.weight": 5}, f"{_CANARY}.steps.0", ONE_OF
        ),
    },
}

TRANSITIONS: Final[dict[Kind, dict[str, Refused]]] = {
    kinds.EDGE_ROLLOUT: {
        **{
            f"another {path} for a running attempt is refused": Refused(
                {f"spec.{path}": value}, f"spec.{path}", IMMUTABLE
            )
            for path, value in {
                "model": "faces",
                "revision": "9876543210",
                "attempt": 2,
                "number": 4,
                "bundle": BUNDLE.replace("5a", "6b"),
                "bundleVersion": 4,
                "variants": ["fp32", "int8"],
                "image": "edgefleet/edgepod:0.2.0",
            }.items()
        },
        "another codec for a running attempt is refused": Refused(
            {"spec.serving.outputCompression.minBytes": 1}, "spec.serving", IMMUTABLE
        ),
        "an approval taken back is refused": Refused(
            {"spec.approvals": []},
            "spec",
            "approvals must not be changed or taken back: set desired to Paused or Aborted instead",
        ),
        "an approval signed over is refused": Refused(
            {"spec.approvals": [{"wave": "lab", "by": "eve"}]},
            "spec",
            "approvals must not be changed or taken back: set desired to Paused or Aborted instead",
        ),
        "an aborted rollout that is to run again is refused": Refused(
            {"spec.desired": "Run"},
            "spec.desired",
            "an aborted rollout must stay aborted: annotate the EdgeModel with edgefleet.dev/retry for another attempt",
            before={"spec.desired": "Aborted"},
        ),
    },
}

ACCEPTED: Final[dict[Kind, dict[str, Changes]]] = {
    kinds.EDGE_MODEL: {
        "a model's name of 40 characters": {"metadata.name": "a" * 40},
        "a model's name of one letter": {"metadata.name": "a"},
        "a bundle on a port": {"spec.bundle": f"oci://127.0.0.1:5000/a@{DIGEST}"},
        "a bundle on an IPv6 address": {"spec.bundle": f"oci://[fd00::1]:5000/a@{DIGEST}"},
        "a bundle deep in a registry": {"spec.bundle": f"oci://host/a/b-c/d_e/f.g@{DIGEST}"},
        "no preference among variants": {"spec.variants": []},
        "every site": {"spec.placement.siteSelector": {}},
        "sites without a label": {
            "spec.placement.siteSelector.matchExpressions": [{"key": "a.b/c", "operator": "DoesNotExist"}]
        },
        "a label without value": {"spec.placement.siteSelector.matchLabels": {"a": ""}},
        "requests without limits": {"spec.serving.resources.limits": ABSENT},
        "limits without requests": {"spec.serving.resources.requests": ABSENT},
        "requests as high as limits": {
            "spec.serving.resources.requests": {"cpu": "1000m", "memory": "0.25Gi"}
        },
        "no compression": {"spec.serving.outputCompression": {"codec": "none"}},
        "a canary without steps": {f"{_CANARY}.steps": [], f"{_CANARY}.gates": {"minGolden": "90%"}},
        "shadow alone": {f"{_CANARY}.steps": _SHADOW_ONLY},
        "a last weight of everything": {f"{_CANARY}.steps.2.weight": 100},
        "a soak of nothing": {f"{_WAVE}.soak": "0s"},
        "a soak of hours, minutes and seconds": {f"{_WAVE}.soak": "1h30m15s500ms"},
        "no error at all": {f"{_CANARY}.gates.maxErrorRate": "0%"},
        "full agreement": {f"{_CANARY}.gates.minAgreement": "100.0%"},
        "a share in ten-thousandths": {f"{_CANARY}.gates.minGolden": "99.9999%"},
        "the shortest latency": {f"{_CANARY}.gates.maxP99": "1ms"},
        "the shortest deadline": {f"{_CANARY}.progressDeadline": "1s"},
        "no wave": {"spec.rollout.waves": []},
        "one open wave": {"spec.rollout.waves": [{"name": "rest"}]},
        "waves that leave the rest unsaid": {"spec.rollout.waves": [{"name": "lab", "limit": 3}]},
        "a limit of one site": {f"{_WAVE}.limit": 1},
        "a limit of all sites": {f"{_WAVE}.limit": "100%"},
        "no failure": {f"{_WAVE}.maxFailures": 0},
        "any failure": {f"{_WAVE}.maxFailures": "100%"},
        "a limit of one in ten thousand": {f"{_WAVE}.limit": "0.01%"},
        "failures of a half percent": {f"{_WAVE}.maxFailures": "0.5%"},
        "one success": {f"{_WAVE}.minSuccess": 1},
        "no cohorts and no rate": {_COHORTS: ABSENT, _RATE: ABSENT},
        "cohorts by one key and nothing else": {_COHORTS: {"by": ["variant"]}},
        "cohorts by labels of four kinds": {
            f"{_COHORTS}.by": ["a", "a.b/c", "firmware", "edgefleet.dev/soc"]
        },
        "no failure in a cohort": {f"{_COHORTS}.maxFailures": 0},
        "a rate and nothing else": {_RATE: {"perMinute": 1000}},
        "a rate that does not grow": {_RATE: {"perMinute": 5, "factor": 1}},
    },
    kinds.EDGE_SITE: {
        "a site's name of 50 characters": {"metadata.name": "a" * 50},
        "offline after two beats": {"spec.heartbeat.offlineAfter": "240s"},
        "the quickest beat": {"spec.heartbeat": {"interval": "1s", "offlineAfter": "2s"}},
        "the slowest beat": {"spec.heartbeat": {"interval": "1h", "offlineAfter": "24h"}},
        "an absence of a year": {"spec.autonomy": "8784h"},
        "an absence as long as the silence": {"spec.autonomy": "360s"},
        "no windows and no limit": {"spec.windows": ABSENT, "spec.bandwidth": ABSENT},
        "windows of no kind": {"spec.windows": {"download": [], "update": []}},
        "a window of a month": {"spec.windows.update.0.duration": "744h"},
        "a window on the last day of the month": {"spec.windows.update.0.schedule": "0 0 L * *"},
        "a window on the second Tuesday": {"spec.windows.update.0.schedule": "0 0 * * TUE#2"},
        "a zone without a place": {"spec.windows.update.0.timeZone": "Etc/GMT+5"},
        "a zone deep in the list": {"spec.windows.update.0.timeZone": "America/Argentina/Ushuaia"},
        "a trickle": {"spec.bandwidth.limit": "1Ki"},
    },
    kinds.EDGE_ROLLOUT: {
        "a model's name with hyphens": {"metadata.name": "a-b-3", "spec.model": "a-b"},
        "no approval yet": {"spec.approvals": ABSENT},
    },
    kinds.EDGE_AGENT: {"the one agent": {"metadata.name": "site"}},
    kinds.EDGE_DEPLOYMENT: {
        "an order with little in it": {
            "spec.serving": {},
            "spec.canary": {},
            "spec.variants": [],
            "spec.validFor": ABSENT,
            "spec.replaces": ABSENT,
            "spec.rollout": "",
            "spec.wave": "",
        },
    },
}
