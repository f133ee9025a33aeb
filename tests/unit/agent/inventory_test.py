"""What a site says it is made of, read from files as kernels write them."""

from pathlib import Path

import pytest
from edgefleet.agent import inventory

BOOTLOADER = "2bb2ae640058a2f3aa8dcbdc2da33302e509668d"
RASPBERRY = {
    "proc/device-tree/compatible": b"raspberrypi,4-model-b\0brcm,bcm2711\0",
    "proc/device-tree/model": b"Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/device-tree/chosen/bootloader/version": BOOTLOADER.encode() + b"\0",
}
SERVER = {
    "sys/class/dmi/id/product_name": b"NUC11TNHi5\n",
    "sys/class/dmi/id/board_name": b"NUC11TNBi5\n",
    "sys/class/dmi/id/bios_version": b"TNTGL357.0064.2022.0217.1541\n",
}
HIDDEN_TREE = {
    "proc/cpuinfo": b"processor\t: 0\nHardware\t: BCM2835\nRevision\t: c03114\nModel\t\t: Raspberry Pi 4 Model B\n"
}
FAMILY = {"sys/devices/soc0/soc_id": b"i.MX8MP\n", "sys/devices/soc0/machine": b"Board X\n"}
NAMELESS = {
    "sys/class/dmi/id/product_name": b"To be filled by O.E.M.\n",
    "sys/class/dmi/id/board_name": b"J1900/ITX (rev. 2)\n",
    "sys/class/dmi/id/bios_version": b"Default string\n",
}


def read(root: Path, files: dict[str, bytes]) -> inventory.Inventory:
    """The inventory of a node with these files."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return inventory.read(root)


@pytest.mark.parametrize(
    ("files", "soc", "firmware"),
    [
        pytest.param(RASPBERRY, "brcm-bcm2711", BOOTLOADER, id="device-tree"),
        pytest.param(SERVER, "NUC11TNHi5", "TNTGL357.0064.2022.0217.1541", id="dmi"),
        pytest.param({**SERVER, **RASPBERRY}, "brcm-bcm2711", BOOTLOADER, id="device-tree-before-dmi"),
        pytest.param(HIDDEN_TREE, "BCM2835", "", id="cpuinfo-where-the-tree-is-hidden"),
        pytest.param(FAMILY, "i.MX8MP", "", id="soc-bus"),
        pytest.param(NAMELESS, "J1900-ITX-rev.-2", "", id="makers-who-write-nothing"),
        pytest.param({}, "", "", id="nothing"),
    ],
)
def test_board_and_firmware_are_what_the_machine_calls_itself(
    tmp_path: Path, files: dict[str, bytes], soc: str, firmware: str
) -> None:
    found = read(tmp_path, files)

    assert (soc, firmware) == (found.soc, found.firmware)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        pytest.param(b"A" * 100_000, "A" * 63, id="long"),
        pytest.param(b"\xff\xfe\x00\x01\x02", "", id="no-text"),
        pytest.param("Gerät „Süd“; rm -rf /\n".encode(), "Ger-t-S-d-rm-rf", id="strange-characters"),
        pytest.param(b" \n", "", id="blank"),
        pytest.param(b"A" * 62 + b"--B", "A" * 62, id="cut-at-a-hyphen"),
    ],
)
def test_a_name_is_short_and_made_of_what_labels_are_made_of(
    tmp_path: Path, content: bytes, name: str
) -> None:
    assert read(tmp_path, {"sys/class/dmi/id/bios_version": content}).firmware == name


def test_a_name_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    (tmp_path / "sys/class/dmi/id/bios_version").mkdir(parents=True)

    assert inventory.read(tmp_path).firmware == ""


def test_what_is_read_is_told(tmp_path: Path) -> None:
    told = inventory.status(read(tmp_path, SERVER), tmp_path)

    assert (told["soc"], told["firmware"]) == ("NUC11TNHi5", "TNTGL357.0064.2022.0217.1541")
