"""`edgefleet bundle …`."""

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from edgefleet.bundle import BundleInfo, RegistryOptions, Trust, parse
from edgefleet.bundle.disk import digest_of
from edgefleet.bundle.format import BundleConfig, File
from edgefleet.bundle.inspecting import Claims, claims, verify_file
from edgefleet.bundle.layout import Layout
from edgefleet.bundle.oci import Registry
from edgefleet.bundle.pull import examine
from edgefleet.bundle.reference import Reference
from edgefleet.bundle.trust import TrustError
from edgefleet.cli import bundle_view, registries
from edgefleet.cli.registries import registry_options
from edgefleet.core import units

if TYPE_CHECKING:
    from edgefleet.build.making import Request
    from edgefleet.build.packing import Packed

_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


class _Text(click.ParamType[Any]):
    """A text that one of the product's own parsers reads."""

    def __init__(self, name: str, parser: Callable[[str], Any]) -> None:
        self.name = name
        self._parser = parser

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # type: ignore[explicit-override]
        """Parse, or say what is wrong."""
        if not isinstance(value, str):
            return value
        try:
            return self._parser(value)
        except ValueError as error:
            return self.fail(str(error), param, ctx)


@click.group()
def bundle() -> None:
    """Build, inspect and verify model bundles."""


@bundle.command()
@click.argument("model", type=_EXISTING)
@click.option("--name", required=True, help="Name of the model; stays the same over its releases.")
@click.option("--version", required=True, type=click.IntRange(min=1), help="Release; grows.")
@click.option(
    "--quantize",
    "methods",
    multiple=True,
    type=click.Choice(["int8", "int8-dynamic", "none"]),
    default=("int8",),
    show_default=True,
    help="Variants to make, best first; may be given several times. int8 is static (calibrated), none keeps the float model.",
)
@click.option("--keep-float", is_flag=True, help="Add the float model as the last variant.")
@click.option(
    "--golden", required=True, type=_EXISTING, help="npz with input/<name> and, optional, label/<output>."
)
@click.option(
    "--calibration", type=_EXISTING, help="npz with input/<name> for int8. [default: the golden set]"
)
@click.option(
    "--max-drop",
    type=_Text("share", units.share),
    default="1%",
    show_default=True,
    help="Accuracy (labels) or agreement (no labels) a variant may lose, in percentage points.",
)
@click.option("--key", required=True, type=_EXISTING, help="Private key, see `edgefleet keys create`.")
@click.option("--push", "target", type=_Text("reference", parse), help="oci://host[:port]/repository[:tag]")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), help="Write an OCI image layout here."
)
@click.option("--time-limit", type=_Text("duration", units.duration), default="5m", show_default=True)
@click.option("--memory-limit", type=_Text("quantity", units.quantity), default="6Gi", show_default=True)
@registry_options
def build(
    model: Path,
    name: str,
    version: int,
    methods: tuple[str, ...],
    keep_float: bool,
    golden: Path,
    calibration: Path | None,
    max_drop: float,
    key: Path,
    target: Reference | None,
    output: Path | None,
    time_limit: float,
    memory_limit: float,
    plain_http: bool,
    ca_file: Path | None,
) -> None:
    """Quantize an ONNX model, measure it on a golden set, refuse it past the gate; sign it and push it.

    The model is parsed and run in a child process that may use --memory-limit, each step --time-limit at most.
    """
    from edgefleet.build.making import Request
    from edgefleet.build.sandbox import Limits

    if target is None and output is None:
        raise click.UsageError("give --push, --output or both")
    if target is not None and target.digest:
        raise click.UsageError(
            "--push takes a tag or nothing after the repository; the digest is the outcome"
        )
    wanted = (*methods, "none") if keep_float else methods
    request = Request(
        model=model,
        name=name,
        version=version,
        golden=golden,
        calibration=calibration,
        methods=tuple(dict.fromkeys(wanted)),
        max_drop=max_drop,
        limits=Limits(time_limit, int(memory_limit)),
    )
    with tempfile.TemporaryDirectory(prefix="edgefleet-build-") as folder:
        packed = _make(request, Path(folder), key)
        bundle_view.show(packed.config, packed.digest)
        if output is not None:
            _write(packed, output)
        if target is not None:
            _push(packed, target, registries.options(target, plain_http, ca_file))


@bundle.command()
@click.argument("ref")
@click.option("--json", "as_json", is_flag=True, help="Print bundle.json as it is read.")
@registry_options
def inspect(ref: str, as_json: bool, plain_http: bool, ca_file: Path | None) -> None:
    """Show what a bundle says of itself. REF: oci://host/repository[:tag|@sha256:…], or a folder (OCI layout).

    Nothing is verified but digests; `bundle verify` asks who signed it.
    """
    found = asyncio.run(_claims(_place(ref, plain_http, ca_file)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found.config)))
    else:
        bundle_view.show(found.config, found.digest)


@bundle.command()
@click.argument("ref")
@click.option(
    "--trust",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Public key (PEM), or a folder of them.",
)
@click.option("--deep", is_flag=True, help="Fetch every model and check its digest too.")
@registry_options
def verify(ref: str, trust: Path, deep: bool, plain_http: bool, ca_file: Path | None) -> None:
    """Verify that a bundle is whole and signed by a trusted key, as hub and sites do."""
    try:
        keys = Trust.load(trust)
    except TrustError as error:
        raise click.ClickException(str(error)) from error
    info = asyncio.run(_verify(_place(ref, plain_http, ca_file), keys, deep))
    click.echo(f"verified  {info.digest}")
    click.echo(f"model     {info.name} version {info.version}")
    click.echo(f"signed by {', '.join(info.signed_by)}")
    click.echo(f"files     {'fetched and checked' if deep else 'not fetched; --deep checks them too'}")


def _make(request: "Request", folder: Path, key: Path) -> "Packed":
    from edgefleet.build import making, signing
    from edgefleet.build.errors import AccuracyGate, BuildError

    try:
        return making.make(
            request, folder, signing.signer(key), lambda line: click.echo(f"  {line}", err=True)
        )
    except AccuracyGate as error:
        bundle_view.table(error.report)
        raise click.ClickException(f"{error.reason}: {error}") from error
    except BuildError as error:
        raise click.ClickException(f"{error.reason}: {error}") from error


def _write(packed: "Packed", output: Path) -> None:
    from edgefleet.build import pushing

    pushing.write_layout(packed, output)
    click.echo(f"written   {output}")


def _push(packed: "Packed", target: Reference, options: RegistryOptions) -> None:
    from edgefleet.build import pushing

    pinned = asyncio.run(
        pushing.push(packed, target, options, lambda line: click.echo(f"  {line}", err=True))
    )
    click.echo(f"pushed    {pinned}")


@dataclass(frozen=True, slots=True)
class _Place:
    """A bundle in a folder or in a registry."""

    reference: Reference
    layout: Layout | None = None
    options: RegistryOptions = field(default_factory=RegistryOptions)


def _place(ref: str, plain_http: bool, ca_file: Path | None) -> _Place:
    if Path(ref).is_dir():
        layout = Layout(Path(ref))
        return _Place(layout.reference(), layout=layout)
    reference = parse(ref)
    return _Place(reference, options=registries.options(reference, plain_http, ca_file))


async def _claims(place: _Place) -> Claims:
    if place.layout is not None:
        return await claims(place.layout, place.reference)
    async with Registry(place.options) as registry:
        return await claims(registry, place.reference)


async def _verify(place: _Place, keys: Trust, deep: bool) -> BundleInfo:
    if place.layout is not None:
        info = (await examine(place.layout, place.reference, keys)).info
        for file in _files(info.config) if deep else ():
            place.layout.verify_file(file)
        return info
    async with Registry(place.options) as registry:
        reference = place.reference
        if not reference.digest:
            reference = reference.pinned(digest_of(await registry.manifest(reference)))
        info = (await examine(registry, reference, keys)).info
        for file in _files(info.config) if deep else ():
            await verify_file(registry, reference, file)
        return info


def _files(config: BundleConfig) -> tuple[File, ...]:
    return (config.golden.file, *(variant.file for variant in config.variants))
