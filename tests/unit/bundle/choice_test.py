"""A site takes the first variant it can run, of those the model names, else of the bundle's."""

from pathlib import Path

import pytest
from edgefleet.bundle import BundleInfo, NoSuchVariant, NoVariantFits, choose_variant
from edgefleet.bundle.layout import Layout
from edgefleet.bundle.pull import examine
from support.bundles import ALICE, Json, forge

MIB = 1 << 20


def requirements(document: Json) -> None:
    document["variants"][0]["requirements"] = {"cpuFeatures": ["avx512_vnni"], "memoryBytes": 64 * MIB}
    document["variants"][1]["requirements"] = {"memoryBytes": 256 * MIB}


@pytest.fixture
async def info(tmp_path: Path) -> BundleInfo:
    forge(edit=requirements).write(tmp_path)
    layout = Layout(tmp_path)
    return (await examine(layout, layout.reference(), ALICE.trust)).info


@pytest.mark.parametrize(
    ("wanted", "features", "memory", "chosen"),
    [
        pytest.param((), {"avx512_vnni"}, 512, "int8", id="the-bundles-first"),
        pytest.param((), {"avx2"}, 512, "fp32", id="the-next-when-the-cpu-lacks-something"),
        pytest.param((), {"avx512_vnni"}, 64, "int8", id="just-enough-memory"),
        pytest.param(("fp32", "int8"), {"avx512_vnni"}, 512, "fp32", id="the-models-first"),
        pytest.param(("fp32", "int8"), {"avx512_vnni"}, 100, "int8", id="the-models-next"),
    ],
)
def test_the_first_that_fits_is_taken(
    wanted: tuple[str, ...], features: set[str], memory: int, chosen: str, info: BundleInfo
) -> None:
    assert choose_variant(info, wanted, features, memory * MIB).name == chosen


def test_when_none_fits_each_one_says_what_it_lacks(info: BundleInfo) -> None:
    with pytest.raises(
        NoVariantFits, match=r"int8 needs cpu feature avx512_vnni.*fp32 needs 256 MiB"
    ) as caught:
        choose_variant(info, (), set(), 100 * MIB)
    assert caught.value.environment, "another site may run it"


def test_a_variant_that_does_not_exist_is_the_models_fault(info: BundleInfo) -> None:
    with pytest.raises(NoSuchVariant, match=r"int4.*int8, fp32") as caught:
        choose_variant(info, ("int4",), set(), 0)
    assert not caught.value.environment


def test_all_that_a_variant_needs_is_kept_from_eviction(info: BundleInfo) -> None:
    digests = info.digests(info.variant("int8"))
    assert info.digest in digests
    assert info.golden.file.digest in digests
    assert info.variant("int8").file.digest in digests
    assert info.variant("fp32").file.digest not in digests
    assert len(digests) == 5
