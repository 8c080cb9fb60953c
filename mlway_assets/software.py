"""The software bill of materials: every installed distribution, as CycloneDX 1.6 (ECMA-424) in JSON.

Written here: the form is small, and the one thing that a library would add is the reading of other package managers.
"""

import json
import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageMetadata, distributions
from typing import Any

SOFTWARE_FILE = "card/software.cdx.json"
_PROJECT = "mlway"
_LONGEST_NAME = 100
"""Some distributions put the whole text of a licence where its name belongs."""


def bill_of_materials(installed: Iterable[Distribution] | None = None) -> bytes:
    """Name, version, licence and package address of each; the same bytes for the same software."""
    # Every access of `metadata` parses the file again.
    every = (each.metadata for each in (distributions() if installed is None else installed))
    found = {_name(each): each for each in every if "Name" in each}
    project = found.pop(_PROJECT, None)
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": _PROJECT}},
        "components": [_component(name, found[name]) for name in sorted(found)],
    }
    if project is not None:
        document["metadata"]["component"] |= {"version": project["Version"]} | _licences(project)
    return json.dumps(document, indent=1).encode()


def _name(found: PackageMetadata) -> str:
    """As package indexes spell it."""
    return re.sub(r"[-_.]+", "-", found["Name"]).lower()


def _component(name: str, found: PackageMetadata) -> dict[str, Any]:
    version = found["Version"]
    address = f"pkg:pypi/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": address,
        "name": name,
        "version": version,
        "purl": address,
    } | _licences(found)


def _licences(found: PackageMetadata) -> dict[str, Any]:
    """What the distribution says of its licence: an SPDX expression, else classifiers, else a name."""
    if "License-Expression" in found:
        return {"licenses": [{"expression": found["License-Expression"]}]}
    classifiers = (text for text in found.get_all("Classifier") or () if text.startswith("License ::"))
    names = sorted({text.rpartition(" :: ")[2] for text in classifiers} - {"OSI Approved"})
    stated = found["License"].strip().partition("\n")[0].strip() if "License" in found else ""
    if not names and stated and stated != "UNKNOWN":
        names = [stated[:_LONGEST_NAME]]
    return {"licenses": [{"license": {"name": name}} for name in names]} if names else {}
