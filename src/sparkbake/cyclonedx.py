"""Write the bill of materials of an image as CycloneDX 1.6: https://cyclonedx.org/docs/1.6/json/.

What it has no key for are properties: `sparkbake:wheel`, `sparkbake:trimmed`, `sparkbake:patch` and, of the image,
`sparkbake:label:<key>`.
"""

import hashlib
from typing import Any

from sparkbake.bill import Bill, Component, Distribution, Licence, Origin, Patch, json_text


def cyclonedx_json(bill: Bill) -> str:
    """A bill as JSON; no clock and no chance is in it."""
    components = [_distribution(bill.distribution), *(_component(one) for one in bill.components)]
    return json_text(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{uuid8(bill.digest.encode())}",
            "version": 1,
            "metadata": {
                "timestamp": bill.created,
                # Without its version, so that an image has one bill whichever version writes it.
                "tools": {"components": [{"type": "application", "name": "sparkbake"}]},
                "component": _image(bill),
            },
            "components": components,
            "dependencies": [{"ref": bill.purl, "dependsOn": sorted(one["bom-ref"] for one in components)}],
        }
    )


def uuid8(name: bytes) -> str:
    """A UUID that is the same for the same name: RFC 9562, section 5.8, made of SHA-256 as in its appendix B.2."""
    octets = bytearray(hashlib.sha256(name).digest()[:16])
    octets[6] = octets[6] & 0x0F | 0x80  # version 8
    octets[8] = octets[8] & 0x3F | 0x80  # variant of RFC 9562
    digits = octets.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _image(bill: Bill) -> dict[str, Any]:
    return {
        "type": "container",
        "bom-ref": bill.purl,
        "name": bill.reference,
        "version": bill.digest,
        "purl": bill.purl,
        "licenses": _licences(bill.licence),
        "properties": _properties([(f"label:{key}", value) for key, value in bill.labels]),
    }


def _distribution(distribution: Distribution) -> dict[str, Any]:
    return {
        "type": "operating-system",
        "bom-ref": distribution.release,
        "name": distribution.id,
        "version": distribution.version,
        "description": distribution.name,
    }


def _component(component: Component) -> dict[str, Any]:
    wheel = component.wheel
    said = [("wheel", wheel.file)] if wheel else []
    said += [("trimmed", component.trimmed)] if component.trimmed else []
    said += [("patch", f"{one.file} sha256:{one.sha256}") for one in component.patches]
    return {
        "type": "library",
        "bom-ref": component.purl,
        "name": component.name,
        "version": component.version,
        "purl": component.purl,
        "description": component.summary,
        "publisher": component.maintainer,
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}] if wheel else [],
        "licenses": _licences(component.licence),
        "pedigree": _pedigree(component.origin, component.patches),
        "properties": _properties(said),
    }


def _licences(licence: Licence | None) -> list[dict[str, Any]]:
    """An expression, or else a licence by name."""
    if licence is None:
        return []
    if licence.expression:
        return [{"expression": licence.expression, "acknowledgement": "declared"}]
    text = {"content": licence.text} if licence.text else None
    return [{"license": {"name": licence.name, "text": text, "acknowledgement": "declared"}}]


def _pedigree(origin: Origin | None, patches: tuple[Patch, ...]) -> dict[str, Any] | None:
    if origin is None and not patches:
        return None
    return {
        "ancestors": [_ancestor(origin)] if origin else [],
        "patches": [{"type": "unofficial", "diff": {"url": one.file}} for one in patches],
    }


def _ancestor(origin: Origin) -> dict[str, Any]:
    vcs = [{"type": "vcs", "url": origin.repository}] if origin.repository else []
    return {
        "type": "library",
        "name": origin.name,
        "version": origin.version,
        "purl": origin.purl,
        "externalReferences": vcs,
    }


def _properties(said: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": f"sparkbake:{name}", "value": value} for name, value in said]
