"""The command line that the nox sessions call: arguments in, exit status out.

Exit status: 0 done; 1 an error that a check found, digests that differ, an image that may not be published, a machine
that one was not shipped to, or something that could not be removed; 2 wrong arguments, or a fault in matrix.yaml or
mirrors.yaml; 3 a lock, or a file of the package index; 4 this machine; 5 no base; 6 a program; 7 the build; 8 an image
that cannot be read; 9 a registry; 10 a bundle that cannot be made, read or built from; 130 interrupted.
"""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from sparkbake.arguments import make_parser
from sparkbake.errors import SparkbakeError

_INTERRUPTED = 130
# Command to the function that does it.
_COMMANDS = {
    "list": "listing.list_rows",
    "render": "listing.render",
    "lock": "relock.lock",
    "bump": "bumping.bump",
    "watch": "watching.watch",
    "build": "commands.build_rows",
    "verify": "verifying.verify_images",
    "bundle": "bundling.bundle",
    "publish": "publishing.publish",
    "ship": "ship.ship",
    "clean": "clean.clean",
    "check": "checking.check",
    "delta": "comparing.delta",
    "reproduce": "reproduce.reproduce",
    "inventory": "stocktaking.inventory",
    "sbom": "materials.sbom",
    "moe": "tuning.moe",
    "kernels": "kernelrun.kernels",
    "patches": "patchlist.patches",
    "doctor": "doctoring.doctor",
    "notes": "releasing.notes",
    "docs": "listing.docs",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = make_parser((__doc__ or "").partition("\n\n")[2]).parse_args(argv)
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


if __name__ == "__main__":
    sys.exit(main())
