"""The labels and OCI annotations of an image; every version among them is checked in the image by `verify`."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sparkbake.lockfile import lock_digest
from sparkbake.model import ImageKind, Lock, Matrix, Override, Pairs, Row, Trim

# https://github.com/opencontainers/image-spec/blob/main/annotations.md
OCI = "org.opencontainers.image."
NONE = "none"


def image_labels(
    matrix: Matrix,
    row: Row,
    lock: Lock,
    *,
    image: ImageKind,
    base_name: str,
    base_digest: str,
    trims: Sequence[Trim],
) -> Pairs:
    """Labels of one image, sorted by key; none of them depends on a clock or on the machine."""
    prefix = matrix.project.label_prefix
    labels = {
        OCI + "title": image.title,
        OCI + "description": image.description,
        OCI + "version": row.tag,
        OCI + "revision": revision(row.release.commit, lock.wheel_commit),
        OCI + "source": image.source,
        OCI + "url": matrix.project.url,
        OCI + "vendor": matrix.project.vendor,
        OCI + "licenses": image.licenses,
        OCI + "created": rfc3339(lock.source_date_epoch),
        OCI + "base.name": base_name,
        OCI + "base.digest": base_digest,
        OCI + "ref.name": row.tag,
        f"{prefix}.overrides": overrides_label(row.overrides),
        f"{prefix}.trimmed": trimmed_label(trims),
        f"{prefix}.lock_digest": lock_digest(lock),
        f"{prefix}.jit_arch": matrix.chip.jit_arch,
        **{f"{prefix}.{name}_version": version for name, version in row.versions},
        **{f"{prefix}.{name}_build_id": found for name, found in lock.build_ids},
    }
    return tuple(sorted(labels.items()))


def overrides_label(overrides: Sequence[Override]) -> str:
    """Names of the packages that set aside what upstream declares, comma-separated; 'none' without any."""
    return ",".join(one.package for one in overrides) or NONE


def trimmed_label(trims: Sequence[Trim]) -> str:
    """Names of the packages that lack some of their files, comma-separated; 'none' without any."""
    return ",".join(sorted({one.package for one in trims})) or NONE


def revision(tag_commit: str | None, wheel_commit: str) -> str:
    """The commit the wheel was built from: 40 hex digits if the tag points to it, else as many as the wheel names."""
    return tag_commit if tag_commit and tag_commit.startswith(wheel_commit) else wheel_commit


def rfc3339(epoch: int) -> str:
    """Seconds since 1970 as a UTC date and time.

    >>> rfc3339(0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
