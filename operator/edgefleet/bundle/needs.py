"""What the variants of a bundle ask of a site, in the words of the decisions."""

from edgefleet.bundle.format import BundleConfig
from edgefleet.core.statuses import VariantNeeds


def needs(config: BundleConfig) -> tuple[VariantNeeds, ...]:
    """Return one entry for each variant, in the bundle's own order."""
    return tuple(
        VariantNeeds(
            name=item.name,
            cpu_features=item.requirements.cpu_features,
            memory_bytes=item.requirements.memory_bytes,
            size_bytes=item.file.size + config.golden.file.size,
        )
        for item in config.variants
    )
