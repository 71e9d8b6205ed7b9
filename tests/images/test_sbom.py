"""The bill of materials lists what is installed, the same each time."""

import importlib.util
import json
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path
from types import ModuleType

import pytest

SBOM = Path(__file__).parents[2] / "images" / "sbom.py"
STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u14
Description: GNU C Library
 more

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1.0

Package: libstdc++6
Status: install ok installed
Architecture: amd64
Version: 1:12.2.0
"""


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", SBOM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_lists_each_installed_distribution_once(sbom: ModuleType) -> None:
    components = sbom.bill(list(sbom.python_components()))["components"]
    assert f"pkg:pypi/torch@{version('torch')}".replace("+", "%2B") in [each["purl"] for each in components]
    assert len({each["purl"] for each in components}) == len(components)
    assert len(components) == len(
        {(each.name.lower().replace("_", "-").replace(".", "-"), each.version) for each in distributions()}
    )


def test_debian_s_packages_are_those_that_are_installed(sbom: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "status").write_text(STATUS)
    found = [each["purl"] for each in sbom.debian_components(tmp_path / "status")]
    assert found == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64",
        "pkg:deb/debian/libstdc%2B%2B6@1%3A12.2.0?arch=amd64",
    ]


def test_equal_packages_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        subprocess.run([sys.executable, SBOM, tmp_path / name], check=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    document = json.loads((tmp_path / "one").read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
