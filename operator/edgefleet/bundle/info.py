"""What is known about a bundle once its signature has been verified, and which variant a site takes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edgefleet.bundle.errors import NoSuchVariant, NoVariantFits
from edgefleet.bundle.format import BuildReport, BundleConfig, File, Golden, Manifest, Tensor, Variant
from edgefleet.bundle.reference import Reference


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """A bundle that was found, signed by a trusted key and read. Only `check`, `pull` and `load` make one."""

    reference: Reference
    """Always with a digest."""
    config: BundleConfig
    manifest: Manifest
    signed_by: tuple[str, ...]
    """Key ids of the trusted keys whose signatures hold."""
    documents: tuple[str, ...]
    """Digests of manifest, bundle.json and envelope."""

    @property
    def digest(self) -> str:
        """The bundle's digest, `sha256:…`."""
        return self.reference.digest

    @property
    def name(self) -> str:
        """Name of the model in the bundle."""
        return self.config.name

    @property
    def version(self) -> int:
        """Grows with every release."""
        return self.config.version

    @property
    def variants(self) -> tuple[Variant, ...]:
        """In the builder's order of preference."""
        return self.config.variants

    @property
    def golden(self) -> Golden:
        """The golden set."""
        return self.config.golden

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Inputs, the same for all variants."""
        return self.config.inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """Outputs, the same for all variants."""
        return self.config.outputs

    @property
    def report(self) -> BuildReport:
        """Accuracy before and after quantization."""
        return self.config.report

    def variant(self, name: str) -> Variant:
        """Return the variant of that name. Raises NoSuchVariant."""
        for item in self.config.variants:
            if item.name == name:
                return item
        names = ", ".join(item.name for item in self.config.variants)
        raise NoSuchVariant(
            f"bundle {self.name} version {self.version} has no variant {name!r}; it has {names}"
        )

    def files(self, variant: Variant) -> tuple[File, ...]:
        """Return what must be in the store to self-test and serve a variant: model first, then golden set."""
        return (variant.file, self.config.golden.file)

    def digests(self, variant: Variant) -> frozenset[str]:
        """Return all that eviction must keep for a variant, the documents too."""
        return frozenset((*self.documents, *(item.digest for item in self.files(variant))))


def choose_variant(
    info: BundleInfo, wanted: Sequence[str], cpu_features: Collection[str], memory_bytes: int
) -> Variant:
    """Return the first variant that this site can run.

    `wanted` are names in order of preference; none: the bundle's own order. `memory_bytes` is what the pod may
    use. Raises NoSuchVariant for a name the bundle does not have, NoVariantFits when requirements are not met.
    """
    candidates = [info.variant(name) for name in wanted] or list(info.variants)
    misses = []
    for variant in candidates:
        lacking = _lacking(variant, cpu_features, memory_bytes)
        if not lacking:
            return variant
        misses.append(f"{variant.name} needs {lacking}")
    raise NoVariantFits(
        f"no variant of {info.name} version {info.version} fits this site: {'; '.join(misses)}"
    )


def _lacking(variant: Variant, cpu_features: Collection[str], memory_bytes: int) -> str:
    needs = variant.requirements
    lacking = [f"cpu feature {name}" for name in needs.cpu_features if name not in cpu_features]
    if needs.memory_bytes > memory_bytes:
        lacking.append(f"{needs.memory_bytes >> 20} MiB of memory, {memory_bytes >> 20} MiB are there")
    return ", ".join(lacking)
