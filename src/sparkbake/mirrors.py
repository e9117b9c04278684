"""Read mirrors.yaml: where this machine finds what the locks name. It never changes what is built."""

from dataclasses import dataclass
from pathlib import Path

from sparkbake.fields import read_fields, read_text
from sparkbake.model import Pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class Mirrors:
    """Other places for the same bytes.

    Attributes:
        bases: base name to another reference, "registry.example/ubuntu@sha256:..." or "oci-layout:/path@sha256:...".
        package_index: URL of a simple index; may hold a user and a password, since it enters builds as a secret.
        debian: mirror or snapshot archive for bootstrapped bases.
        ca_bundle: PEM file; enters builds as a secret, never a layer.
    """

    bases: Pairs = ()
    package_index: str | None = None
    debian: str | None = None
    ca_bundle: Path | None = None


def load_mirrors(path: Path, base_names: tuple[str, ...]) -> Mirrors:
    """Read and check a mirrors file.

    Args:
        base_names: the bases that the matrix has; others under `bases` are faults.

    Raises:
        MatrixError: with every fault of the file.
    """
    root = read_fields(read_text(path), path.name)
    root.text("schema", pattern="1", expected="'1', the version of this format")
    bases = root.mapping_or_empty("bases")
    for name in bases.keys:
        if name not in base_names:
            bases.fault(name, f"no such base; expected one of {', '.join(base_names)}")
    reference = r"(oci-layout:\S+|\S+)@sha256:[0-9a-f]{64}"
    web = r"(https?|file)://\S+"
    bundle = root.text_or_none("ca_bundle")
    mirrors = Mirrors(
        bases=tuple(
            (name, bases.text(name, pattern=reference, expected="a reference that ends in @sha256: and 64 hex digits"))
            for name in bases.keys
        ),
        package_index=root.text_or_none("package_index", pattern=web, expected="a URL"),
        debian=root.text_or_none("debian", pattern=web, expected="a URL"),
        ca_bundle=Path(bundle).expanduser() if bundle else None,
    )
    if mirrors.ca_bundle and not mirrors.ca_bundle.is_file():
        root.fault("ca_bundle", f"got '{bundle}', which is no file; expected a PEM file with certificates")
    root.done()
    root.raise_faults()
    return mirrors
