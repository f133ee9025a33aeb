"""`edgefleet keys …`."""

from pathlib import Path

import click


@click.group()
def keys() -> None:
    """Make the keys that sign bundles."""


@keys.command()
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder to write to. [default: the current one]",
)
@click.option("--name", default="edgefleet", show_default=True, help="Name of the files.")
def create(folder: Path, name: str) -> None:
    """Make an Ed25519 key pair: NAME.key, which stays with you, and NAME.pub, which sites and hub are given."""
    from edgefleet.build import signing

    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    try:
        key_id = signing.create_keys(private, public)
    except FileExistsError as error:
        raise click.ClickException(f"{error.filename} exists; it is not overwritten") from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    click.echo(f"private key  {private}   keep it secret; sign with `edgefleet bundle build --key {private}`")
    click.echo(f"public key   {public}   give it to hub and sites")
    click.echo(f"key id       {key_id}")
