"""What can be typed: every command with its arguments and their help."""

import argparse
from pathlib import Path
from typing import TypeAlias

_IMAGE = "an OCI archive or layout folder (oci:FILE), a tag that the engine has, or docker://REGISTRY/NAME:TAG"

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  (it has no public name)


def make_parser(epilog: str) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        epilog: what the help says at its end.
    """
    parser = argparse.ArgumentParser(
        prog="sparkbake",
        description="Reproducible CUDA images for NVIDIA DGX Spark.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=epilog,
    )
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the project's folder (default: this one)")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    _add_list(commands)
    _add_render(commands)
    _add_lock(commands)
    _add_bump(commands)
    _add_watch(commands)
    _add_build(commands)
    _add_verify(commands)
    _add_bundle(commands)
    _add_publish(commands)
    _add_ship(commands)
    _add_clean(commands)
    _add_check(commands)
    _add_delta(commands)
    _add_reproduce(commands)
    _add_inventory(commands)
    _add_sbom(commands)
    _add_moe(commands)
    _add_kernels(commands)
    _add_patches(commands)
    _add_doctor(commands)
    _add_notes(commands)
    command = commands.add_parser("docs", help="write what is generated into README.md and docs/")
    command.add_argument("--check", action="store_true", help="only say whether they are true")
    return parser


def _add_list(commands: _Commands) -> None:
    command = commands.add_parser("list", help="the rows of the matrix")
    _add_tags(command, nargs="*")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_render(commands: _Commands) -> None:
    command = commands.add_parser("render", help="write build/<target>/Dockerfile and build/docker-bake.json")
    _add_tags(command)
    _add_base(command)
    _add_variant(command, "compile vLLM in another way, of rows that are compiled: 12.1")


def _add_lock(commands: _Commands) -> None:
    command = commands.add_parser("lock", help="resolve rows or a base anew")
    _add_tags(command, nargs="*")
    command.add_argument("--base", metavar="NAME", help="lock this base instead of rows")
    command.add_argument("--apt-snapshot", metavar="TIME", help="archive snapshot of a registry base, 20260917T000000Z")
    _add_mirrors(command)


def _add_bump(commands: _Commands) -> None:
    command = commands.add_parser("bump", help="put a vLLM release of the package index into the matrix, locked")
    command.add_argument("release", nargs="?", metavar="RELEASE", help="of vLLM, as the package index has it")
    command.add_argument("--newest", action="store_true", help="instead: the newest above all of the matrix, if any")
    days = "how long ago it, and each of its packages, must have been published (default: 7)"
    command.add_argument("--older-than-days", type=int, default=7, metavar="N", help=days)
    command.add_argument("--dry-run", action="store_true", help="resolve and show everything, write nothing")
    command.add_argument("--json", action="store_true", help="for machines")
    _add_mirrors(command)


def _add_watch(commands: _Commands) -> None:
    command = commands.add_parser("watch", help="releases of torch and FlashInfer that the matrix lacks")
    days = "how long ago they must have been published (default: 7)"
    command.add_argument("--older-than-days", type=int, default=7, metavar="N", help=days)
    command.add_argument("--markdown", action="store_true", help="for an issue; nothing when nothing is new")
    command.add_argument("--json", action="store_true", help="for machines")
    _add_mirrors(command)


def _add_build(commands: _Commands) -> None:
    command = commands.add_parser("build", help="build images and verify them")
    _add_tags(command)
    _add_base(command)
    _add_mirrors(command)
    command.add_argument("--dry-run", action="store_true", help="only say what would be done")
    command.add_argument("--output", metavar="oci:FILE", help="write an OCI archive instead of filling the engine")
    command.add_argument("--builder", metavar="NAME", help="a buildx builder other than the current one")
    command.add_argument("--no-cache", action="store_true", help="execute every step anew")
    command.add_argument("--no-trim", dest="trim", action="store_false", help="keep what the matrix would leave out")
    command.add_argument(
        "--compression", choices=("zstd", "gzip"), default="zstd", help="of layers; gzip where zstd is not known"
    )
    _add_variant(command, "compile vLLM in another way, of rows that are compiled: 12.1")
    command.add_argument("--jobs", type=_jobs, metavar="N", help="compile jobs at a time; default: by cores and memory")
    cache = "HOST/NAME of a registry that may have what was compiled"
    command.add_argument("--cache-from", nargs="+", action="extend", metavar="REF", help=cache)
    command.add_argument("--cache-to", metavar="REF", help="HOST/NAME of a registry to keep what is compiled in")
    command.add_argument("--wheels", type=Path, metavar="DIR", help="write what is compiled to DIR/TAG as wheels, too")
    command.add_argument("--record", action="store_true", help="write the digest of a clean image to locks/digests")
    command.add_argument("--recorded", action="store_true", help="fail unless the image is as recorded")
    command.add_argument("--no-verify", action="store_true", help="do not look inside the image afterwards")
    command.add_argument("--json", action="store_true", help="plan or reports for machines")
    command.add_argument(
        "--progress",
        choices=("auto", "plain", "quiet", "tty"),
        default="auto",
        help="auto: each step; plain: and what it prints; tty: BuildKit's own display (default: auto)",
    )


def _jobs(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"got '{text}', expected a number of jobs, at least 1")
    return int(text)


def _add_verify(commands: _Commands) -> None:
    command = commands.add_parser("verify", help="hold images against their plans: every file, every claim")
    command.add_argument("images", nargs="+", metavar="IMAGE", help="a TAG or pattern of the engine, or oci:FILE")
    _add_variant(command, "images of rows that were compiled in another way: 12.1")
    command.add_argument("--no-run", dest="run", action="store_false", help="do not run programs of the image")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_bundle(commands: _Commands) -> None:
    command = commands.add_parser("bundle", help="put all that a row is built from into a folder, to build offline")
    command.add_argument("tag", nargs="?", metavar="TAG", help="as `list` shows it")
    _add_base(command)
    _add_mirrors(command)
    command.add_argument("--output", type=Path, metavar="DIR", help="(default: build/bundles/TAG-BASE)")
    command.add_argument("--check", type=Path, metavar="DIR", help="hold the files of a bundle against its manifest")
    command.add_argument("--dry-run", action="store_true", help="only say what would be in it")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_publish(commands: _Commands) -> None:
    command = commands.add_parser("publish", help="push what was verified, then move tags to it")
    _add_tags(command)
    command.add_argument("--registry", metavar="HOST/NAMESPACE", help="where to (default: the matrix's)")
    key = "sign with this key of cosign; COSIGN_PASSWORD has its password"
    command.add_argument("--sign-key", metavar="FILE|env://VAR", help=key)
    command.add_argument("--keyless", action="store_true", help="sign as the workflow that this runs in")
    command.add_argument("--no-sign", action="store_true", help="do not sign")
    command.add_argument("--dry-run", action="store_true", help="only say what would be pushed, moved or refused")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_ship(commands: _Commands) -> None:
    command = commands.add_parser("ship", help="bring an image to the engines of other machines over ssh")
    command.add_argument("tag", metavar="TAG", help="as `list` shows it; the engine here must have it")
    command.add_argument("hosts", nargs="+", metavar="HOST", help="where ssh goes without a password: [USER@]NAME")
    command.add_argument("--parallel", type=int, default=4, metavar="N", help="machines at once (default: 4)")
    command.add_argument("--dry-run", action="store_true", help="only say what each of them lacks")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_clean(commands: _Commands) -> None:
    command = commands.add_parser("clean", help="remove what this project made and nobody needs any more")
    _add_tags(command, nargs="*")
    command.add_argument("--all", action="store_true", help="also what is still good: current images, reports, caches")
    command.add_argument("--build-cache", action="store_true", help="also what can be told as ours in the build cache")
    command.add_argument("--dry-run", action="store_true", help="only list it")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_check(commands: _Commands) -> None:
    command = commands.add_parser("check", help="look at a published image as whoever pulls it would")
    command.add_argument("reference", metavar="REF", help="NAME:TAG or NAME@DIGEST of a registry, or a TAG of `list`")
    command.add_argument("--key", metavar="FILE", help="the public key that it is to be signed with")
    command.add_argument("--identity", metavar="ID", help="without a key: who is to have signed it, and")
    command.add_argument("--issuer", metavar="URL", help="who vouches for that")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_delta(commands: _Commands) -> None:
    command = commands.add_parser("delta", help="what an update from one image to another costs")
    command.add_argument("old", metavar="OLD", help=_IMAGE)
    command.add_argument("new", metavar="NEW", help="likewise")
    command.add_argument("--platform", metavar="OS/ARCH", help="which of several images (default: the matrix's)")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_reproduce(commands: _Commands) -> None:
    command = commands.add_parser("reproduce", help="build from nothing twice and compare the digests")
    _add_tags(command)
    _add_base(command)
    _add_mirrors(command)
    command.add_argument("--against", metavar="IMAGE", help=f"build once, and compare with this: {_IMAGE}")
    command.add_argument("--keep", action="store_true", help="keep the images even if they do not differ")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_inventory(commands: _Commands) -> None:
    command = commands.add_parser("inventory", help="what device code an image has, and whether the chip can run it")
    command.add_argument("image", metavar="IMAGE", help="an OCI archive or layout folder (oci:FILE), or a TAG")
    command.add_argument("--platform", metavar="OS/ARCH", help="which of several images (default: the matrix's)")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_sbom(commands: _Commands) -> None:
    command = commands.add_parser("sbom", help="the bill of materials of an image: every package, licence and source")
    command.add_argument("image", metavar="IMAGE", help="an OCI archive or layout folder (oci:FILE), or a TAG")
    command.add_argument("--format", choices=("cyclonedx", "spdx"), default="cyclonedx", help="(default: cyclonedx)")
    command.add_argument("--output", type=Path, metavar="FILE", help="(default: the standard output)")


def _add_moe(commands: _Commands) -> None:
    command = commands.add_parser("moe", help="which tuned config vLLM opens on a GB10 for a model's experts")
    command.add_argument("image", metavar="IMAGE", help="an OCI archive or layout folder (oci:FILE), or a TAG")
    command.add_argument("--model", type=Path, metavar="PATH", help="a model's folder or its config.json")
    command.add_argument("--tp", type=int, default=1, metavar="N", help="over how many GPUs it is split (default: 1)")
    command.add_argument("--ep", action="store_true", help="share out whole experts: --enable-expert-parallel")
    command.add_argument("--experts", type=int, metavar="E", help="instead of --model: experts of a layer")
    command.add_argument("--intermediate", type=int, metavar="N", help="instead of --model: inner size of an expert")
    command.add_argument("--dtype", metavar="D", help="instead of --model: bf16, fp8_w8a8, int4_w4a16, ...")
    command.add_argument("--block-shape", metavar="N,K", help="instead of --model: blocks with one scale")
    command.add_argument("--all", action="store_true", help="check the configs for other chips, too")
    command.add_argument("--compile", action="store_true", help="and compile their entries for the chip, without a GPU")
    command.add_argument("--triton", metavar="VERSION", help="to compile with (default: that of the row)")
    command.add_argument("--platform", metavar="OS/ARCH", help="which of several images (default: the matrix's)")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_kernels(commands: _Commands) -> None:
    command = commands.add_parser(
        "kernels", help="which kernels vLLM's own build files compile for the chip; fetches sources once"
    )
    command.add_argument("tags", nargs="*", metavar="TAG", help="as `list` shows it, a pattern, or a vLLM release")
    command.add_argument("--arch", metavar="LIST", help="TORCH_CUDA_ARCH_LIST (default: 12.0f, or the variant's)")
    command.add_argument("--cuda", metavar="VERSION", help="CUDA release (default: that of the row, else 13.0)")
    command.add_argument("--as-released", action="store_true", help="without the patches that compiled rows get")
    _add_variant(command, "with the patches and the architecture of this variant: 12.1")
    command.add_argument("--write", action="store_true", help="write docs/kernels.md anew")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_patches(commands: _Commands) -> None:
    command = commands.add_parser("patches", help="which patches of vLLM a release has, and why")
    command.add_argument("release", nargs="?", metavar="RELEASE", help="of vLLM (default: all)")
    command.add_argument("--apply", type=Path, metavar="TREE", help="apply them to these sources")
    _add_variant(command, "a build other than the default: 12.1")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_doctor(commands: _Commands) -> None:
    command = commands.add_parser("doctor", help="what this host lacks for our images, and the command that mends it")
    command.add_argument("tag", nargs="?", metavar="TAG", help="the row whose CUDA and size matter (default: any)")
    command.add_argument(
        "--port", dest="ports", type=int, action="append", metavar="N", help="may be repeated (default: 8000)"
    )
    command.add_argument("--model-dir", type=Path, metavar="DIR", help="where models lie (default: as HF_HOME says)")
    command.add_argument("--json", action="store_true", help="for machines, with all that was gathered")


def _add_notes(commands: _Commands) -> None:
    command = commands.add_parser("notes", help="release notes of a row: what changed, what goes wrong, the way back")
    command.add_argument("tag", metavar="TAG", help="as `list` shows it")
    command.add_argument(
        "--since", metavar="TAG", help="the row to compare with (default: the one before of its major)"
    )
    command.add_argument("--from", dest="old", metavar="IMAGE", help=f"its image, for the bytes that move: {_IMAGE}")
    command.add_argument("--to", dest="new", metavar="IMAGE", help="the image of TAG, likewise")
    command.add_argument("--output", type=Path, metavar="FILE", help="(default: the standard output)")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_tags(command: argparse.ArgumentParser, *, nargs: str = "+") -> None:
    command.add_argument("tags", nargs=nargs, metavar="TAG", help="as `list` shows it, or a pattern: '*-t5'")


def _add_base(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--base",
        metavar="NAME",
        default="auto",
        help="ubuntu-24.04, debian-13, or auto: the first that can be had (default: auto)",
    )


def _add_variant(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--variant", metavar="NAME", help=text)


def _add_mirrors(command: argparse.ArgumentParser) -> None:
    command.add_argument("--mirrors", type=Path, metavar="FILE", help="where else to find what the locks name")
