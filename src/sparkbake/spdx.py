"""Write the bill of materials of an image as SPDX 2.3: https://spdx.github.io/spdx-spec/v2.3/.

A licence that is no SPDX expression stands as LicenseRef- with what the package says of it (section 10): nothing is
lost, and nothing is guessed. NOASSERTION stands where nobody said anything.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from sparkbake.bill import Bill, Component, Distribution, Licence, Origin, json_text

_DOCUMENT = "SPDXRef-DOCUMENT"
_UNKNOWN = "NOASSERTION"
_LICENCE_REF = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")


def spdx_json(bill: Bill) -> str:
    """A bill as JSON; no clock and no chance is in it."""
    image, system = _image(bill), _distribution(bill.distribution)
    built = {one.purl: one.origin for one in bill.components if one.origin and one.origin.repository}
    sources = {one.purl: _source(one) for one in built.values()}
    packages = {one.purl: _package(one, bill.distribution) for one in bill.components}
    contained = sorted(one["SPDXID"] for one in (system, *packages.values()))
    return json_text(
        {
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": _DOCUMENT,
            "name": bill.reference,
            "documentNamespace": f"{bill.address}/spdx/{bill.digest.replace(':', '-')}",
            # Without its version, so that an image has one bill whichever version writes it.
            "creationInfo": {"created": bill.created, "creators": ["Tool: sparkbake"]},
            "packages": [image, system, *packages.values(), *(one for _purl, one in sorted(sources.items()))],
            "hasExtractedLicensingInfos": _extracted(bill),
            "relationships": [
                _relationship(_DOCUMENT, "DESCRIBES", image["SPDXID"]),
                *(_relationship(image["SPDXID"], "CONTAINS", one) for one in contained),
                *(
                    _relationship(packages[purl]["SPDXID"], "GENERATED_FROM", sources[origin.purl]["SPDXID"])
                    for purl, origin in built.items()
                ),
            ],
        }
    )


# ---- packages


def _image(bill: Bill) -> dict[str, Any]:
    return {
        **_named("Image", bill.reference, bill.purl),
        "versionInfo": bill.digest,
        "licenseDeclared": _licence_id(bill.licence),
        "checksums": [{"algorithm": "SHA256", "checksumValue": bill.digest.partition(":")[2]}],
        "primaryPackagePurpose": "CONTAINER",
        "comment": "\n".join(["Labels:", *(f"{key}={value}" for key, value in bill.labels)]),
    }


def _distribution(distribution: Distribution) -> dict[str, Any]:
    return {
        **_named("OS", distribution.id, None),
        "versionInfo": distribution.version,
        "summary": distribution.name,
        # As the JSON schema has it; with "-" in section 7.24, for other formats.
        "primaryPackagePurpose": "OPERATING_SYSTEM",
    }


def _package(component: Component, distribution: Distribution) -> dict[str, Any]:
    wheel = component.wheel
    return {
        **_named(
            "OS" if component.is_os else "Compiled" if component.is_compiled else "Python",
            component.name,
            component.purl,
        ),
        "versionInfo": component.version,
        # Who distributes it. Its maintainer is a person or a group, and SPDX would want to know which.
        "supplier": f"Organization: {distribution.name}" if component.is_os else None,
        "packageFileName": wheel.file if wheel else None,
        "checksums": [{"algorithm": "SHA256", "checksumValue": wheel.sha256}] if wheel else [],
        "licenseDeclared": _licence_id(component.licence),
        "summary": component.summary,
        "sourceInfo": _source_info(component),
        "comment": component.trimmed,
        "primaryPackagePurpose": "LIBRARY",
    }


def _source(origin: Origin) -> dict[str, Any]:
    return {
        **_named("Source", origin.name, origin.purl),
        "versionInfo": origin.version,
        "downloadLocation": f"git+{origin.repository}@{origin.version}",
        "primaryPackagePurpose": "SOURCE",
    }


def _named(kind: str, name: str, purl: str | None) -> dict[str, Any]:
    """What every package has; of an identifier only letters, digits, "." and "-" are allowed (section 7.2)."""
    words = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
    referred = [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}]
    return {
        "SPDXID": f"SPDXRef-{kind}-{words}-{_short_hash(purl or name)}",
        "name": name,
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "externalRefs": referred if purl else [],
    }


def _source_info(component: Component) -> str | None:
    """What a package was built from, in words, since packages of the distribution's sources would outnumber its own."""
    origin = component.origin
    built = [f"built from {origin.name} {origin.version}, {origin.purl}"] if origin else []
    patched = [f"patched with {one.file}, sha256:{one.sha256}" for one in component.patches]
    return "\n".join([*built, *patched]) or None


def _relationship(subject: str, kind: str, related: str) -> dict[str, str]:
    return {"spdxElementId": subject, "relationshipType": kind, "relatedSpdxElement": related}


# ---- licences


def _licence_id(licence: Licence | None) -> str:
    if licence is None:
        return _UNKNOWN
    return licence.expression or f"LicenseRef-{_short_hash(f'{licence.name} {licence.text}')}"


def _extracted(bill: Bill) -> list[dict[str, str]]:
    """Each LicenseRef- once, by its identifier."""
    said = {one.licence for one in bill.components if one.licence} | ({bill.licence} if bill.licence else set())
    found = {one["licenseId"]: one for licence in said for one in _references(licence)}
    return [one for _id, one in sorted(found.items())]


def _references(licence: Licence) -> Iterator[dict[str, str]]:
    if licence.expression is None:
        text = licence.text or licence.name
        yield {"licenseId": _licence_id(licence), "name": licence.name, "extractedText": text}
        return
    for one in _LICENCE_REF.findall(licence.expression):
        said = f"The metadata of a package names the licence {one} and does not have its text."
        yield {"licenseId": one, "name": one, "extractedText": said}


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
