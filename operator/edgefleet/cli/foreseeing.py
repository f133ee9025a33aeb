"""What applying an EdgeModel would do: the operator's own decision on the hub's objects, with the new spec in place."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from edgefleet.bundle import BundleError, RegistryOptions, parse_pinned
from edgefleet.bundle.format import BundleConfig
from edgefleet.bundle.inspecting import claims
from edgefleet.bundle.needs import needs
from edgefleet.bundle.oci import Registry
from edgefleet.cli.reading import Objects
from edgefleet.core import explaining, model_pass, placement, revision
from edgefleet.core.attempts import Course
from edgefleet.core.explaining import Explanation, Story
from edgefleet.core.fleet import SiteView
from edgefleet.core.forecast import Coming
from edgefleet.core.model_pass import Reasoning
from edgefleet.core.seen import BundleCheck, ModelSeen
from edgefleet.core.specs import ModelSpec
from edgefleet.core.statuses import VariantNeeds
from edgefleet.kube.client import Object


@dataclass(frozen=True, slots=True)
class Bundles:
    """What registries say of bundles, by digest; believed by nobody, only to reckon with."""

    configs: Mapping[str, BundleConfig]
    check: BundleCheck | None
    """Of the one asked for; None: its registry could not be asked from here."""
    problem: str = ""
    """Why not."""


@dataclass(frozen=True, slots=True)
class Pull:
    """What one site would fetch. Sizes in bytes; None: not known."""

    site: str
    wave: str
    connectivity: str
    variant: str
    total: int | None
    """Of the model file and the golden set."""
    pulls: int | None
    """Of them, what it has not by what it serves."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What would come of one EdgeModel."""

    course: Course
    says: str
    """The course in words."""
    rollout: str
    attempt: int
    revision: str
    """Empty: new, and only the operator can name it (its pod image is a part of it)."""
    told: Explanation
    waves: tuple[Coming, ...]
    pulls: tuple[Pull, ...]
    left_out: tuple[Story, ...]
    """Sites that are not chosen, and why."""
    removed: tuple[str, ...]
    """Sites that would lose the model."""
    braked: bool
    """The removal waits for a person's consent."""


async def look_up(reference: str, others: Mapping[str, str], options: RegistryOptions) -> Bundles:
    """Read the bundle asked for, and of `others` (references by digest) those that can be read."""
    configs: dict[str, BundleConfig] = {}
    async with Registry(options) as registry:
        try:
            configs[revision.bundle_digest(reference)] = (
                await claims(registry, parse_pinned(reference))
            ).config
        except BundleError as error:
            if error.environment:
                return Bundles({}, None, f"{error.reason}: {error}")
            check = BundleCheck(reference, ok=False, reason=error.reason, message=str(error))
            return Bundles({}, check, f"{error.reason}: {error}")
        for digest, other in others.items():
            try:
                configs[digest] = (await claims(registry, parse_pinned(other))).config
            except BundleError:  # what it saves is then not known, which the plan says by counting nothing
                continue
    config = configs[revision.bundle_digest(reference)]
    names = tuple(item.name for item in config.variants)
    check = BundleCheck(reference, ok=True, version=config.version, variants=names, needs=needs(config))
    return Bundles(configs, check)


def served_bundles(found: Objects, model: Object) -> dict[str, str]:
    """References of the bundles that serve somewhere, by digest, as far as the rollouts name them."""
    meta = model["metadata"]
    rollouts = found.rollouts(str(meta.get("namespace") or ""), str(meta["name"])).values()
    named = {revision.bundle_digest(raw["spec"]["bundle"]): str(raw["spec"]["bundle"]) for raw in rollouts}
    orders = found.records.orders_of_model(str(meta.get("namespace") or ""), str(meta["name"]))
    active = {item.report.active_bundle for item in orders}
    return {digest: reference for digest, reference in named.items() if digest in active}


def foresee(seen: ModelSeen, now: datetime, bundles: Bundles, variants: Mapping[str, str]) -> Foreseen | None:
    """Foresee from what the operator would see; `variants`: what each site says it serves. None: nothing to decide."""
    found = model_pass.reason_about(seen, now)
    if found is None:
        return None
    told = explaining.explain_reasoned(found, seen, now)
    made = next(iter(found.decision.create_rollouts), None)
    last = found.attempts.last_of(found.intent.wanted.revision)
    newest = found.attempts.newest
    views = {view.name: view for view in found.fleet.views}
    new = made is not None and last is None
    return Foreseen(
        course=found.intent.course,
        says=_says(found, last is not None),
        rollout=made.name if made is not None else newest.meta.name if newest is not None else "",
        attempt=made.spec.attempt if made is not None else last.spec.attempt if last is not None else 0,
        revision="" if new else found.intent.wanted.revision,
        told=told,
        waves=told.waves,
        pulls=tuple(
            _pull(seen, views[site], coming.wave.name, bundles, variants.get(site, ""))
            for coming in told.waves
            for site in coming.sites
        ),
        left_out=tuple(item for item in told.stories if not _counted(views[item.site])),
        removed=tuple(sorted(view.name for view in found.fleet.views if _leaves(view))),
        braked=bool(found.orders.braked),
    )


def _says(found: Reasoning, known: bool) -> str:
    match found.intent.course:
        case Course.START:
            return "another attempt at a revision that was tried before" if known else "a new revision starts"
        case Course.FOLLOW:
            newest = found.attempts.newest
            ended = found.attempts.outcomes[newest.meta.name].value if newest is not None else ""
            state = f"its rollout ended as {ended}" if ended else "its rollout is under way and goes on"
            return f"no new revision: {state}"
        case Course.GIVE_UP:
            return "asked for is what completed last: the running rollout is aborted"
        case Course.SETTLED:
            return "no new revision: what is asked for has completed"
        case Course.CHECKING | Course.BUNDLE_INVALID | Course.NO_SITES | Course.FAILED_BEFORE:
            return (
                f"nothing starts: {found.intent.reason or found.intent.course.value}: {found.intent.message}"
            )


def _counted(view: SiteView) -> bool:
    return view.counted or view.site is None


def _leaves(view: SiteView) -> bool:
    return view.site is not None and view.running is not None and not view.placed


def _pull(seen: ModelSeen, view: SiteView, wave: str, bundles: Bundles, served: str) -> Pull:
    spec = seen.model.spec if seen.model is not None else None
    if not isinstance(spec, ModelSpec) or view.site is None:
        raise ValueError(f"{view.name} is in a wave of a model that cannot be read")
    wanted = bundles.check.needs if bundles.check is not None else ()
    chosen = placement.choose(placement.asked(spec, wanted), placement.inventory(view.site))
    total = chosen.size_bytes if chosen is not None else None
    return Pull(
        site=view.name,
        wave=wave,
        connectivity=view.connectivity.value,
        variant=chosen.name if chosen is not None else "",
        total=total,
        pulls=None if chosen is None or total is None else _missing(spec, chosen, view, bundles, served),
    )


def _missing(spec: ModelSpec, chosen: VariantNeeds, view: SiteView, bundles: Bundles, served: str) -> int:
    """Bytes of the files that what serves there does not have in common."""
    wanted = _files(bundles.configs[revision.bundle_digest(spec.bundle)], chosen.name)
    config = bundles.configs.get(view.report.active_bundle)
    have = _files(config, served) if config is not None else {}
    return sum(size for digest, size in wanted.items() if digest not in have)


def _files(config: BundleConfig, variant: str) -> dict[str, int]:
    """Sizes of the files of a variant, by digest."""
    found = [item.file for item in config.variants if item.name == variant]
    return {file.digest: file.size for file in (*found, config.golden.file)} if found else {}
