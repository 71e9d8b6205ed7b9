"""What an image holds, as CycloneDX: Python's distributions and Debian's packages, found where they are installed.

    python sbom.py OUT

No time and no random number goes in, so that equal images have equal lists.
"""

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

DPKG_STATUS = Path("/var/lib/dpkg/status")


def python_components() -> Iterator[dict[str, Any]]:
    for distribution in distributions():
        name = re.sub(r"[-_.]+", "-", distribution.name).lower()
        version = distribution.version
        reference = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
        yield {
            "type": "library",
            "bom-ref": reference,
            "name": name,
            "version": version,
            "purl": reference,
            **_licence(distribution),
        }


def _licence(distribution: Distribution) -> dict[str, Any]:
    """An SPDX expression where the package has one (PEP 639), else the name it gives its licence."""
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        return {"licenses": [{"expression": expression}]}
    named = [line.rsplit("::", 1)[-1].strip() for line in metadata.get_all("Classifier") or [] if "License ::" in line]
    said = (metadata.get("License") or "").splitlines()
    names = named or [line for line in said[:1] if 0 < len(line) < 64]
    return {"licenses": [{"license": {"name": name}} for name in names]} if names else {}


def debian_components(status: Path = DPKG_STATUS) -> Iterator[dict[str, Any]]:
    if not status.is_file():
        return
    for paragraph in status.read_text().split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            version = fields["Version"].replace(":", "%3A").replace("+", "%2B")
            reference = (
                f"pkg:deb/debian/{fields['Package'].replace('+', '%2B')}@{version}?arch={fields['Architecture']}"
            )
            yield {
                "type": "library",
                "bom-ref": reference,
                "name": fields["Package"],
                "version": fields["Version"],
                "purl": reference,
            }


def bill(components: list[dict[str, Any]]) -> dict[str, Any]:
    """The document around components, each once, sorted by reference."""
    once = {component["bom-ref"]: component for component in components}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": "oapseg", "name": "oapseg"}},
        "components": [once[reference] for reference in sorted(once)],
    }


def main() -> None:
    found = [*python_components(), *debian_components()]
    Path(sys.argv[1]).write_text(json.dumps(bill(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
