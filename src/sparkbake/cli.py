"""The command line that the nox sessions call: arguments in, exit status out.

Exit status: 0 done; 1 an error that a check found, or digests that differ; 2 wrong arguments or a fault in matrix.yaml;
3 a lock; 4 this machine; 5 no base; 6 a program; 7 the build; 8 an image that cannot be read; 9 a registry;
130 interrupted.
"""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from sparkbake.errors import SparkbakeError

_INTERRUPTED = 130
# Command to the function that does it.
_COMMANDS = {
    "list": "listing.list_rows",
    "render": "listing.render",
    "lock": "relock.lock",
    "build": "commands.build_rows",
    "verify": "verifying.verify_images",
    "publish": "publishing.publish",
    "delta": "comparing.delta",
    "reproduce": "reproduce.reproduce",
    "inventory": "stocktaking.inventory",
    "sbom": "materials.sbom",
    "moe": "tuning.moe",
    "kernels": "kernelrun.kernels",
    "patches": "patchlist.patches",
    "doctor": "doctoring.doctor",
    "docs": "listing.docs",
}
_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  (it has no public name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(argv)
    # A cancelled CI job must end as Ctrl-C does: helpers stopped, temporary files gone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(options)
    except SparkbakeError as err:
        print(f"sparkbake: error: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        print("sparkbake: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as in `list | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(options: argparse.Namespace) -> int:
    # Each command imports what it needs: `list` must not wait for the Docker SDK.
    module, _dot, function = _COMMANDS[options.name].partition(".")
    return int(getattr(importlib.import_module(f"sparkbake.{module}"), function)(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sparkbake",
        description="Reproducible CUDA images for NVIDIA DGX Spark.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(__doc__ or "").partition("\n\n")[2],
    )
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the project's folder (default: this one)")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    _add_list(commands)
    _add_render(commands)
    _add_lock(commands)
    _add_build(commands)
    _add_verify(commands)
    _add_publish(commands)
    _add_delta(commands)
    _add_reproduce(commands)
    _add_inventory(commands)
    _add_sbom(commands)
    _add_moe(commands)
    _add_kernels(commands)
    _add_patches(commands)
    _add_doctor(commands)
    command = commands.add_parser("docs", help="write the tables that are generated into README.md and docs/")
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


def _add_lock(commands: _Commands) -> None:
    command = commands.add_parser("lock", help="resolve rows or a base anew; the only command that looks outward")
    _add_tags(command, nargs="*")
    command.add_argument("--base", metavar="NAME", help="lock this base instead of rows")
    command.add_argument("--apt-snapshot", metavar="TIME", help="archive snapshot of a registry base, 20260917T000000Z")
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


def _add_verify(commands: _Commands) -> None:
    command = commands.add_parser("verify", help="hold images against their plans: every file, every claim")
    command.add_argument("images", nargs="+", metavar="IMAGE", help="a TAG or pattern of the engine, or oci:FILE")
    command.add_argument("--no-run", dest="run", action="store_false", help="do not run programs of the image")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_publish(commands: _Commands) -> None:
    command = commands.add_parser("publish", help="push what was verified, then move tags to it")
    _add_tags(command)
    command.add_argument("--registry", metavar="HOST/NAMESPACE", help="where to (default: the matrix's)")
    command.add_argument("--dry-run", action="store_true", help="only say what would be pushed, moved or refused")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_delta(commands: _Commands) -> None:
    command = commands.add_parser("delta", help="what an update from one image to another costs")
    image = "an OCI archive or layout folder (oci:FILE), a tag that the engine has, or docker://REGISTRY/NAME:TAG"
    command.add_argument("old", metavar="OLD", help=image)
    command.add_argument("new", metavar="NEW", help="likewise")
    command.add_argument("--platform", metavar="OS/ARCH", help="which of several images (default: the matrix's)")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_reproduce(commands: _Commands) -> None:
    command = commands.add_parser("reproduce", help="build from nothing twice and compare the digests")
    _add_tags(command)
    _add_base(command)
    _add_mirrors(command)
    image = "an OCI archive or layout folder (oci:FILE), a tag that the engine has, or docker://REGISTRY/NAME:TAG"
    command.add_argument("--against", metavar="IMAGE", help=f"build once, and compare with this: {image}")
    command.add_argument(
        "--keep", action="store_true", help="keep the images, which otherwise stay only if they differ"
    )
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
    command.add_argument("--arch", default="12.0f", metavar="LIST", help="TORCH_CUDA_ARCH_LIST (default: 12.0f)")
    command.add_argument("--cuda", metavar="VERSION", help="CUDA release (default: that of the row, else 13.0)")
    command.add_argument("--patched", action="store_true", help="with the patches that the release gets")
    command.add_argument("--variant", metavar="NAME", help="and with those of this variant: 12.1")
    command.add_argument("--write", action="store_true", help="write docs/kernels.md anew")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_patches(commands: _Commands) -> None:
    command = commands.add_parser("patches", help="which patches of vLLM a release has, and why")
    command.add_argument("release", nargs="?", metavar="RELEASE", help="of vLLM (default: all)")
    command.add_argument("--apply", type=Path, metavar="TREE", help="apply them to these sources")
    command.add_argument("--variant", metavar="NAME", help="a build other than the default: 12.1")
    command.add_argument("--json", action="store_true", help="for machines")


def _add_doctor(commands: _Commands) -> None:
    command = commands.add_parser("doctor", help="what this host lacks for our images, and the command that mends it")
    command.add_argument("tag", nargs="?", metavar="TAG", help="the row whose CUDA and size matter (default: any)")
    command.add_argument(
        "--port", dest="ports", type=int, action="append", metavar="N", help="may be repeated (default: 8000)"
    )
    command.add_argument("--model-dir", type=Path, metavar="DIR", help="where models lie (default: as HF_HOME says)")
    command.add_argument("--json", action="store_true", help="for machines, with all that was gathered")


def _add_tags(command: argparse.ArgumentParser, *, nargs: str = "+") -> None:
    command.add_argument("tags", nargs=nargs, metavar="TAG", help="as `list` shows it, or a pattern: '*-t5'")


def _add_base(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--base",
        metavar="NAME",
        default="auto",
        help="ubuntu-24.04, debian-13, or auto: the first that can be had (default: auto)",
    )


def _add_mirrors(command: argparse.ArgumentParser) -> None:
    command.add_argument("--mirrors", type=Path, metavar="FILE", help="where else to find what the locks name")


if __name__ == "__main__":
    sys.exit(main())
