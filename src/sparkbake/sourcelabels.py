"""The labels of compiled images: every version, every commit, what was compiled for, and with which patches."""

from collections.abc import Mapping, Sequence

from sparkbake.labels import NONE, OCI, overrides_label, rfc3339
from sparkbake.model import ImageKind, Matrix, Override, Pairs
from sparkbake.sourcedata import Digests
from sparkbake.sourcelock import FoundationLock, SourceLock, digest_of
from sparkbake.sourcepins import Pin, sources_of
from sparkbake.variants import arch_list

# By this label a base that is there already is known again.
LOCK_DIGEST = "lock_digest"
# And by this one, which is of its build context and those of its parents.
CONTEXT_DIGEST = "context_digest"


def foundation_labels(
    matrix: Matrix, lock: FoundationLock, *, image: ImageKind, base: Digests, versions: Pairs
) -> Pairs:
    """Labels of a compiled foundation, sorted by key."""
    torch = next(one.commit for one in lock.pins if one.name == "torch")
    return _labels(
        matrix,
        _common(matrix, image, tag=lock.name, base=base, epoch=lock.source_date_epoch, revision=torch),
        versions,
        lock.pins,
        {
            LOCK_DIGEST: digest_of(lock),
            "overrides": NONE,
            "torch_arch_list": sources_of(matrix).torch_arch,
            "nccl_gencode": sources_of(matrix).nccl_gencode,
        },
    )


def source_labels(
    matrix: Matrix,
    lock: SourceLock,
    foundation: FoundationLock,
    *,
    image: ImageKind,
    tag: str,
    variant: str | None,
    versions: Pairs,
    overrides: Sequence[Override],
    patches: Sequence[str],
    note: str | None,
) -> Pairs:
    """Labels of a compiled vLLM image, sorted by key.

    Args:
        tag: of the image; with a variant not that of its row.
        patches: names of those that are applied.
        note: what a user of the row should know.
    """
    vllm = next(one.commit for one in lock.pins if one.name == "vllm")
    sources = sources_of(matrix)
    epoch = max(lock.source_date_epoch, foundation.source_date_epoch)
    return _labels(
        matrix,
        _common(matrix, image, tag=tag, base=foundation.images[1], epoch=epoch, revision=vllm),
        versions,
        (*foundation.pins, *lock.pins),
        {
            LOCK_DIGEST: digest_of(lock),
            "foundation": foundation.name,
            "foundation_lock_digest": digest_of(foundation),
            "overrides": overrides_label(overrides),
            "patches": ",".join(patches) or NONE,
            "jit_arch": matrix.chip.jit_arch,
            "torch_arch_list": sources.torch_arch,
            "vllm_arch_list": arch_list(matrix, variant),
            "nccl_gencode": sources.nccl_gencode,
            "metadata_of": lock.metadata_of,
            **({"variant": variant} if variant else {}),
            **({"note": note} if note else {}),
        },
    )


def _common(
    matrix: Matrix, image: ImageKind, *, tag: str, base: Digests, epoch: int, revision: str | None
) -> dict[str, str]:
    known = {"revision": revision, "base.digest": base.manifest}
    return {
        OCI + "title": image.title,
        OCI + "description": image.description,
        OCI + "version": tag,
        OCI + "source": image.source,
        OCI + "url": matrix.project.url,
        OCI + "vendor": matrix.project.vendor,
        OCI + "licenses": image.licenses,
        OCI + "created": rfc3339(epoch),
        OCI + "base.name": base.reference,
        OCI + "ref.name": tag,
        **{OCI + name: found for name, found in known.items() if found},
    }


def _labels(
    matrix: Matrix, common: Mapping[str, str], versions: Pairs, pins: Sequence[Pin], own: Mapping[str, str]
) -> Pairs:
    prefix = matrix.project.label_prefix
    labels = {
        **common,
        **{f"{prefix}.{name}": value for name, value in own.items()},
        **{f"{prefix}.{name}_version": version for name, version in versions},
        **{f"{prefix}.{_key(one.name)}_commit": one.commit for one in pins if one.commit},
        **{f"{prefix}.{_key(one.name)}_wheel_commit": one.built_from for one in pins if one.differs and one.built_from},
    }
    return tuple(sorted(labels.items()))


def wheel_commit(labels: Pairs, name: str) -> str | None:
    """The commit that the package index's wheel of a source was built from, where that is another one."""
    return next((value for key, value in labels if key.endswith(f".{_key(name)}_wheel_commit")), None)


def _key(name: str) -> str:
    return name.replace("-", "_")
