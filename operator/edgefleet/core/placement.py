"""Which sites a model may run on, and why not on the others: one function, asked by the pass, by plan and by explain."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from edgefleet.core import liveness, names, units
from edgefleet.core.order import Surge
from edgefleet.core.seen import SiteObject, SpecError
from edgefleet.core.specs import Expression, ModelSpec, Operator, Selector
from edgefleet.core.statuses import Inventory, VariantNeeds

TOLD_FEATURES: Final = (
    "sse4",
    "ssse3",
    "avx",
    "amx",
    "fma",
    "f16c",
    "bmi",
    "popcnt",
    "vnni",
    "asimd",
    "neon",
    "sve",
    "i8mm",
    "bf16",
    "fphp",
)
"""Beginnings of the processor features an agent tells its hub; of others the hub knows nothing."""


class Reason(StrEnum):
    """Why a site may, or may not, be offered a model."""

    FITS = "Fits"
    NOT_SELECTED = "NotSelected"
    JURISDICTION = "JurisdictionMismatch"
    INVALID_SPEC = "InvalidSpec"
    NOT_JOINED = "NotJoined"
    QUARANTINED = "Quarantined"
    CORDONED = "Cordoned"
    AGENT_TOO_OLD = "AgentTooOld"
    NO_VARIANT_FITS = "NoVariantFits"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    INSUFFICIENT_DISK = "InsufficientDisk"


_FITS: Final = Reason.FITS
_ELSEWHERE: Final = frozenset({Reason.NOT_SELECTED, Reason.JURISDICTION})
_UNFIT: Final = frozenset({Reason.NO_VARIANT_FITS, Reason.INSUFFICIENT_MEMORY, Reason.INSUFFICIENT_DISK})


@dataclass(frozen=True, slots=True)
class Fit:
    """What was found of one site and one model."""

    reason: Reason
    message: str = ""

    @property
    def placed(self) -> bool:
        """The site is one the model is meant for."""
        return self.reason not in _ELSEWHERE

    @property
    def eligible(self) -> bool:
        """The site may be offered the model, and is counted."""
        return self.reason is _FITS

    @property
    def unfit(self) -> bool:
        """The site is meant, but has not what the model needs."""
        return self.reason in _UNFIT


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model asks of a site."""

    selector: Selector | None = None
    """None: no site is meant."""
    jurisdictions: tuple[str, ...] = ()
    """Empty: anywhere."""
    variants: tuple[VariantNeeds, ...] = ()
    """In order of preference. Empty: not known yet, and every site fits."""
    memory_limit: int | None = None
    """Bytes one pod may use."""
    pods: int = 2
    """At the peak: while one revision takes the place of another."""
    surges: bool = True
    """Whether that peak is one more than what serves; else two revisions that do not fit are swapped."""


FITS: Final = Fit(Reason.FITS)
_NOTHING_KNOWN: Final = Inventory()
_NOT_SELECTED: Final = Fit(
    Reason.NOT_SELECTED, "its labels do not match spec.placement.siteSelector of the model"
)
NOBODY: Final = Asked()
"""Means no site: for a model that goes or is gone."""


def asked(spec: ModelSpec, needs: tuple[VariantNeeds, ...]) -> Asked:
    """What a model asks of a site; `needs` of all its bundle's variants, none while the bundle is not known."""
    known = {item.name: item for item in needs}
    wanted = tuple(known[name] for name in spec.variants if name in known) if spec.variants else needs
    limit = spec.serving.resources.limits.get("memory")
    return Asked(
        selector=spec.placement.site_selector,
        jurisdictions=spec.placement.jurisdictions,
        variants=wanted,
        memory_limit=None if limit is None else int(units.quantity(limit)),
        pods=spec.serving.replicas + (spec.canary.surge is Surge.REQUIRED),
        surges=spec.canary.surge is Surge.REQUIRED,
    )


def judge(site: SiteObject, ask: Asked) -> Fit:
    """Say whether a site may be offered a model; the first thing that speaks against it.

    What the hub does not know of a site speaks for it: the site judges again, by what it has.
    """
    if ask.selector is None or not matches(ask.selector, site.meta.labels):
        return _NOT_SELECTED
    abroad = _abroad(site, ask) if ask.jurisdictions else None
    return abroad or _absent(site) or _unfit(inventory(site), ask) or FITS


def inventory(site: SiteObject) -> Inventory | None:
    """What a site is made of, as it said last."""
    told = site.agent.status.inventory if site.agent is not None else None
    return told or site.status.inventory


def _abroad(site: SiteObject, ask: Asked) -> Fit | None:
    if isinstance(site.spec, SpecError):  # a spec of a newer version must not take the model away
        return Fit(Reason.INVALID_SPEC, f"its jurisdiction is not known: {site.spec.message}")
    here = site.spec.jurisdiction
    if here in ask.jurisdictions:
        return None
    said = f"its spec.jurisdiction is {here}" if here else "it has no spec.jurisdiction"
    return Fit(Reason.JURISDICTION, f"{said}, the model may run in {', '.join(ask.jurisdictions)} only")


def _absent(site: SiteObject) -> Fit | None:
    if site.meta.deleting:
        return Fit(Reason.NOT_JOINED, "it is being deleted")
    if site.lease is None or site.agent is None:
        return Fit(Reason.NOT_JOINED, "no box has joined under its name")
    if (held := site.status.quarantine) is not None:
        return Fit(Reason.QUARANTINED, f"it is in quarantine until {held.until}: {held.message}")
    if liveness.spec_of(site).cordoned:
        return Fit(Reason.CORDONED, "it is cordoned: what it runs goes on, it gets no offers")
    understood = site.agent.status.understands
    if names.ORDER_VERSION in understood:
        return None
    if not understood:
        return Fit(Reason.NOT_JOINED, "its agent has not told what it is yet")
    versions = ", ".join(str(item) for item in understood)
    text = f"its agent understands orders of version {versions}, this hub writes {names.ORDER_VERSION}"
    return Fit(Reason.AGENT_TOO_OLD, text)


# -- what a site has, and what a model needs ------------------------------------------------------------


def choose(ask: Asked, found: Inventory | None) -> VariantNeeds | None:
    """The variant a site would take, as far as the hub knows it; None: none of them, or they are not known."""
    has = found or _NOTHING_KNOWN
    for item in ask.variants:
        if _runs(item, ask, has):
            return item
    return None


def _unfit(found: Inventory | None, ask: Asked) -> Fit | None:
    if found is None:
        return None
    chosen = choose(ask, found)
    if chosen is None and ask.variants:
        misses = "; ".join(f"{item.name} needs {_lacking(item, ask, found)}" for item in ask.variants)
        return Fit(Reason.NO_VARIANT_FITS, misses)
    limit, there = ask.memory_limit, found.memory_bytes
    if limit is not None and 0 < there < limit * ask.pods:
        more = ", and one more while a revision changes" if ask.surges else ""
        text = (
            f"{ask.pods} pods of {_mib(limit)} (spec.serving.replicas{more}) "
            f"need {_mib(limit * ask.pods)} of memory, {_mib(there)} are there"
        )
        return Fit(Reason.INSUFFICIENT_MEMORY, text)
    if chosen is not None and 0 < found.disk_bytes < chosen.size_bytes:
        text = f"{chosen.name} needs {_mib(chosen.size_bytes)} of disk, {_mib(found.disk_bytes)} are there"
        return Fit(Reason.INSUFFICIENT_DISK, text)
    return None


def _room(ask: Asked, found: Inventory) -> int:
    """Bytes one pod may use; 0: not known."""
    return ask.memory_limit if ask.memory_limit is not None else found.memory_bytes


def _runs(variant: VariantNeeds, ask: Asked, found: Inventory) -> bool:
    """Whether nothing is lacking; asked for every site, so it makes no words."""
    if 0 < _room(ask, found) < variant.memory_bytes:
        return False
    have = found.cpu_features
    for name in variant.cpu_features if have else ():
        if name not in have and name.startswith(TOLD_FEATURES):
            return False
    return True


def _lacking(variant: VariantNeeds, ask: Asked, found: Inventory) -> str:
    """What a site misses for a variant, in words; a feature sites do not tell of is left to the site."""
    have = found.cpu_features
    lacking = [
        f"cpu feature {name}"
        for name in variant.cpu_features
        if have and name.startswith(TOLD_FEATURES) and name not in have
    ]
    room = _room(ask, found)
    if 0 < room < variant.memory_bytes:
        whose = "are there" if ask.memory_limit is None else "are its limit (spec.serving.resources)"
        lacking.append(f"{_mib(variant.memory_bytes)} of memory, {_mib(room)} {whose}")
    return ", ".join(lacking)


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB" if size >= 10 * 2**20 else f"{size / 2**20:.1f} MiB"


# -- selectors ------------------------------------------------------------------------------------------


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether labels meet every requirement of a selector; an empty selector means every site."""
    for key, value in selector.match_labels.items():
        if labels.get(key) != value:
            return False
    expressions = selector.match_expressions
    return not expressions or all(_meets(expression, labels) for expression in expressions)


def unmet(selector: Selector, labels: Mapping[str, str]) -> str:
    """The requirements of a selector that labels do not meet, in words; empty: they meet all."""
    wrong = [
        f"{key}={value} is asked for, it has {labels.get(key) or 'none'}"
        for key, value in selector.match_labels.items()
        if labels.get(key) != value
    ]
    for item in selector.match_expressions:
        if not _meets(item, labels):
            asks = f"{item.key} {item.operator.value} {', '.join(item.values)}".rstrip()
            wrong.append(f"{asks} is asked for, it has {labels.get(item.key) or 'none'}")
    return "; ".join(wrong)


def _meets(expression: Expression, labels: Mapping[str, str]) -> bool:
    """As Kubernetes does: NotIn is met by a site without the label."""
    match expression.operator:
        case Operator.IN:
            return labels.get(expression.key) in expression.values
        case Operator.NOT_IN:
            return labels.get(expression.key) not in expression.values
        case Operator.EXISTS:
            return expression.key in labels
        case Operator.DOES_NOT_EXIST:
            return expression.key not in labels
