"""What the reasons in conditions and reports mean, and what to do about them.

`edgefleet explain` and `docs/reference/reasons.md` are made of this; reasons of bundles come from `bundle.errors`.
"""

import inspect
from collections.abc import Mapping
from typing import Final, NamedTuple

from edgefleet.bundle import errors


class Reason(NamedTuple):
    """One reason."""

    meaning: str
    act: str = ""
    """What a person does; empty: nothing, it moves by itself or is well."""


MODELS: Final[Mapping[str, Reason]] = {
    "Checking": Reason("The bundle is being looked up and its signature checked."),
    "CheckFailed": Reason("The check of the bundle broke; it is repeated.", "look into the operator's log"),
    "BundleVerified": Reason("The bundle exists and is signed by a trusted key."),
    "BundleInvalid": Reason("The bundle cannot be used; the message says why.", "name another bundle"),
    "UnknownVariant": Reason(
        "spec.variants names a variant the bundle does not have.", "correct spec.variants"
    ),
    "InvalidSpec": Reason("The spec cannot be used; the message names the field.", "correct the spec"),
    "NoSitesMatch": Reason(
        "The placement selects no site, or none that may or can run the model; the message says why.",
        "correct spec.placement, label EdgeSites, or `edgefleet explain model MODEL --site SITE`",
    ),
    "NewRevision": Reason("A rollout is about to start."),
    "WaveRunning": Reason("A wave of sites is at work."),
    "Soaking": Reason("A wave is healthy and is watched for its soak time."),
    "WaitingApproval": Reason(
        "The next wave may not start without a person.", "edgefleet rollout approve MODEL --wave WAVE"
    ),
    "NotEnoughSites": Reason(
        "Too few sites of the wave are healthy or can be reached, so it does not complete.",
        "bring the sites back, lower minSuccess, or `edgefleet rollout finish MODEL`",
    ),
    "MaxFailuresExceeded": Reason(
        "More sites of the wave failed than maxFailures allows, and failureStrategy is Pause.",
        "raise maxFailures, or `edgefleet rollout abort MODEL`",
    ),
    "CohortHeld": Reason(
        "The revision failed at too many sites of one kind and is withheld from that kind; the message names it.",
        "look at the failed sites (`edgefleet rollout status MODEL`), then apply a bundle that suits them",
    ),
    "RateLimited": Reason("spec.rollout.rate keeps offers back; the message says until when."),
    "Paused": Reason(
        "Offers stop; soak and timers stand still.", "edgefleet rollout resume MODEL, or spec.paused: false"
    ),
    "Complete": Reason("The rollout completed by its policy."),
    "RolledBack": Reason(
        "The revision failed; it is banned and every site goes back to the last good one.",
        "apply another bundle, or `edgefleet rollout retry MODEL`",
    ),
    "Aborted": Reason(
        "A person aborted the rollout; its revision is banned.",
        "apply another bundle, or `edgefleet rollout retry MODEL`",
    ),
    "Superseded": Reason("A newer revision was asked for while this rollout ran."),
    "RevisionFailedBefore": Reason(
        "This very revision failed or was aborted before and is not started again by itself.",
        "apply another bundle, change spec.canary, or `edgefleet rollout retry MODEL`",
    ),
    "RemovalNeedsApproval": Reason(
        "A change of placement or labels would take the model from many sites at once.",
        "put the selector or the labels right, or approve as the message says",
    ),
    "CatchUpFailing": Reason(
        "Sites that catch up with the completed revision keep failing; no further ones are asked to.",
        "look at the failed sites, then apply another bundle or retry",
    ),
    "NoGoodRevision": Reason("There is no revision the site could go to; it keeps what it runs."),
}

PLACEMENT: Final[Mapping[str, Reason]] = {
    "NotSelected": Reason(
        "The site's labels do not match spec.placement.siteSelector.",
        "label the EdgeSite or correct the selector",
    ),
    "JurisdictionMismatch": Reason(
        "The model may run in other jurisdictions only. At a site: by its own word (chart value site.jurisdiction), "
        "else by its EdgeSite; nothing is pulled, what serves goes on.",
        "correct spec.placement.jurisdictions, spec.jurisdiction of the EdgeSite, or site.jurisdiction at the site",
    ),
    "NotJoined": Reason("No box has joined under the site's name, or its agent has told nothing yet."),
    "Quarantined": Reason(
        "The operator has set the site aside; its condition Quarantined says why.",
        "edgefleet site release NAME",
    ),
    "Cordoned": Reason(
        "The site gets no offers and begins nothing new; what it has begun goes on.",
        "spec.cordoned: false on the EdgeSite",
    ),
    "InsufficientMemory": Reason(
        "The site has less memory than the pods need at their peak: spec.serving.replicas and one more.",
        "lower spec.serving.resources.limits.memory or replicas, or leave the site out of the placement",
    ),
    "InsufficientDisk": Reason(
        "The bundle's files are larger than the site's disk.", "leave the site out of the placement"
    ),
}
"""Why a site is not chosen for a model; these come from `core.placement`."""

SITES: Final[Mapping[str, Reason]] = {
    "WaitingForJoin": Reason("No box has joined under this name.", "edgefleet site token NAME"),
    "KeyBound": Reason("A box has joined; its key is the site's identity."),
    "Joined": Reason("The site has joined and its policy is delivered."),
    "InSync": Reason("Joined, and the site has confirmed its policy."),
    "PolicyPending": Reason("The site has not yet confirmed its policy."),
    "NeverHeard": Reason("The site has not beaten since it joined."),
    "NameTaken": Reason(
        "A namespace or object of the name is there and belongs to somebody else.", "rename or remove one"
    ),
    "RepeatedFailures": Reason(
        "The site refused several revisions that are good elsewhere; it is set aside and offered nothing.",
        "look at the site, then `edgefleet site release NAME`",
    ),
    "Flapping": Reason(
        "The site's connectivity comes and goes; it is set aside and offered nothing.",
        "see to its link, then `edgefleet site release NAME`",
    ),
    "CrashLooping": Reason(
        "A promoted revision that is good elsewhere keeps crashing here; the site is set aside.",
        "look at the site's pods, then `edgefleet site release NAME`",
    ),
    "QuarantineFull": Reason(
        "The site would be set aside, but as many are as quarantine.maxShare allows.",
        "look at the sites that are set aside: if they are not to blame, release them and look at the models",
    ),
    "NotQuarantined": Reason("The site is not set aside."),
    "Skewed": Reason("The site's clock is off.", "set the clock at the site (NTP)"),
}

JOINING: Final[Mapping[str, Reason]] = {
    "NoJoinToken": Reason(
        "The box has neither certificate nor token.", "edgefleet site token NAME, install with it"
    ),
    "JoinTokenInvalid": Reason(
        "The token has expired or was used.", "edgefleet site token NAME (--replace if it had joined)"
    ),
    "JoinPending": Reason("The certificate request waits for the operator.", "see that the operator runs"),
    "Denied": Reason("The operator denied the certificate request; the message says why."),
    "WrongToken": Reason("The token was made for another site.", "use the token of this site"),
    "KeyMismatch": Reason(
        "The key is another than the one named by the request or fixed by the EdgeSite.",
        "correct spec.publicKeySHA256 of the EdgeSite or take it out",
    ),
    "KeyNotBound": Reason(
        "A renewal by a key that is no longer the site's.", "edgefleet site token NAME --replace"
    ),
    "TokenUsed": Reason(
        "Another box has joined with this token.",
        "edgefleet site token NAME --replace, if this box is to have the name",
    ),
    "BadRequest": Reason("The certificate request cannot be read or asks for what sites do not get."),
    "BadCommonName": Reason("The request names no site in the way sites are named."),
    "BadOrganization": Reason("The request asks for another group than the one of sites."),
    "BadUsages": Reason("The request asks for more than a client certificate."),
    "SiteKnown": Reason("The certificate request was approved."),
    "Joining": Reason("The box asks for its certificate."),
    "UnknownSite": Reason("There is no EdgeSite of the name.", "create it, or edgefleet site token NAME"),
    "HubUnreachable": Reason("The hub does not answer; the site goes on by itself."),
    "HubRefuses": Reason("The hub refuses what the agent asks; nothing changes on the site."),
    "LinkBroken": Reason("The link to the hub broke; it is tried again."),
}

ORDERS: Final[Mapping[str, Reason]] = {
    "AgentTooOld": Reason(
        "The order or the site's policy has a field or version this agent does not know.",
        "upgrade edgefleet-site",
    ),
    "NameTooLong": Reason(
        "Namespace and model are too long together for names on a site.", "use a shorter name"
    ),
    "HubBehind": Reason(
        "The order goes to a lower bundle version without naming the digest to leave: the hub may be restored "
        "from a backup."
    ),
    "BundleNameChanged": Reason(
        "The bundle bears another name than the one this model served first here.",
        "use another EdgeModel for another model",
    ),
    "RefusedByCluster": Reason(
        "The site's own API server refuses what the agent has to write: a quota, an admission rule, a lost right.",
        "the message names the object and the rule; make room or change the rule at the site",
    ),
    "OrderLapsed": Reason("The order was not started in time and the hub has not been heard since."),
    "WindowClosed": Reason(
        "The site waits for its download or update window; the message says when it opens. Going back waits for none.",
        "nothing, or change spec.windows of the EdgeSite",
    ),
    "ClockUntrusted": Reason(
        "The site's clock shows a time before the agent was made, or is more than 5 min off the hub's, so no window of it is open.",
        "set the clock of the site (NTP)",
    ),
    "PolicyUnreadable": Reason(
        "The site has windows its agent cannot read, so it keeps them closed.", "upgrade edgefleet-site"
    ),
    "Downloading": Reason("The bundle is being fetched, at most as fast as the EdgeSite's bandwidth.limit."),
    "DownloadFailed": Reason("Fetching broke off; it goes on where it stopped."),
    "Verified": Reason("Signature and digests are right; the files are in the store."),
    "SelfTesting": Reason("The golden set runs on the site's own hardware."),
    "SelfTestFailed": Reason("The golden set disagreed or the model did not run; counts against the model."),
    "SelfTestTimeout": Reason("The self-test did not end within progressDeadline; counts against the model."),
    "SelfTestCrashed": Reason("The model ended the self-test's process; counts against the model."),
    "SelfTestKilled": Reason("The self-test was ended from outside; it is repeated."),
    "SelfTestInterrupted": Reason("The self-test's pod went away; it is repeated."),
    "SelfTestNotStarted": Reason(
        "The cluster has not made or started the self-test's pod; counts against nobody.",
        "look at the events of the Job: quota, image, node",
    ),
    "Starting": Reason("Pods of the revision start."),
    "PodsNotCreated": Reason(
        "The cluster refuses to make the revision's pods; the message says why.",
        "make room in the quota of the models' namespace, or look at what refuses pods there",
    ),
    "PodsNotStarted": Reason(
        "Pods of the revision are missing, or their container has not started; counts against nobody.",
        "look at the events of the Deployment and its pods: image, node, kubelet",
    ),
    "Swapping": Reason(
        "What served was taken down to make room for the new revision (canary.surge: Preferred); callers have nobody."
    ),
    "OutputsDiffer": Reason(
        "The order asks for agreement with a model that has other outputs.",
        "leave spec.canary.gates.minAgreement out for this bundle",
    ),
    "Promoting": Reason("The new revision takes over."),
    "Serving": Reason("The revision the order names serves."),
    "NotReady": Reason("The revision that serves has no ready pod."),
    "Restoring": Reason("A piece of what serves was missing and is put back."),
    "Scaling": Reason("Pods of the new revision replace those of the old one, one by one."),
    "CleaningUp": Reason("What the model no longer needs is removed."),
    "Keeping": Reason("The site is about to forget the model and leave what runs alone."),
    "EvidenceRestarted": Reason("A serving pod was restarted; the step's evidence starts again."),
    "StepPassed": Reason("A step of the canary passed."),
    "Confirming": Reason(
        "The canary broke a gate and cannot be asked; callers are kept from it while it is found out whether it lived."
    ),
    "NotEnoughTraffic": Reason("Too few requests to judge a step by; it holds."),
    "EvidenceUnreadable": Reason("Not every serving pod could be asked; the step holds."),
    "GoldenStandsIn": Reason("Callers are silent, and the golden set stands in for them (onNoTraffic)."),
    "ServingNotReady": Reason("What serves has no ready pod to compare the canary with; the step holds."),
    "StepNotTakenUp": Reason("Not every serving pod has taken the step up; it holds."),
    "CanaryFailing": Reason("Serving pods dropped the canary by themselves after failures in a row."),
    "CanaryRestarts": Reason("The canary's pods were restarted or replaced too often."),
    "ErrorRateTooHigh": Reason("The canary failed more requests than maxErrorRate."),
    "TooSlow": Reason("The canary's 99th percentile is above maxP99."),
    "DisagreesWithServing": Reason("The canary agrees with the serving model less than minAgreement."),
    "DeadlineExceeded": Reason("No progress inside one stage for progressDeadline."),
    "Crashed": Reason("The pod crashed; counts against the model."),
    "OutOfMemory": Reason("The pod needed more memory than its limit.", "raise spec.serving.resources"),
    "NotReadyAfterPromotion": Reason("The promoted revision had no ready pod; the site went back."),
    "GoingBack": Reason("The site goes back to the revision it served before."),
    "InsufficientMemory": Reason(
        "The new revision does not fit beside what serves, or the site is full; what serves stays.",
        "free memory at the site, lower the memory of spec.serving.resources, or let the model swap (canary.surge)",
    ),
    "InsufficientCpu": Reason(
        "The pod asks for more CPU than the site has left.", "lower requests.cpu of spec.serving.resources"
    ),
    "Unschedulable": Reason("The pod does not fit on the site.", "free memory or CPU at the site"),
    "ImagePullFailed": Reason(
        "The pod image cannot be fetched.", "see that the site reaches the image's registry"
    ),
    "ContainerNotCreated": Reason("The container cannot be made on this site.", "look at the pod's events"),
    "RunContainerError": Reason("The container cannot be started on this site.", "look at the pod's events"),
    "PodEnvironment": Reason("The pod's surroundings kept it from its work; the message says how."),
    "Removed": Reason("Nothing of the model is left on the site."),
    "Kept": Reason("The site leaves what runs alone and has forgotten about it."),
    "Conflict": Reason(
        "A local order bears the name of one from the hub; the hub's wins.", "rename the local one"
    ),
}


def _of_bundles() -> dict[str, Reason]:
    kinds = (kind for _, kind in inspect.getmembers(errors, inspect.isclass))
    return {
        kind.reason: Reason(inspect.getdoc(kind) or "", "" if kind.environment else "name another bundle")
        for kind in kinds
        if issubclass(kind, errors.BundleError)
    }


BUNDLES: Final[Mapping[str, Reason]] = _of_bundles()
KNOWN: Final[Mapping[str, Reason]] = {**BUNDLES, **ORDERS, **JOINING, **SITES, **PLACEMENT, **MODELS}
