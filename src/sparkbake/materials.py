"""The command that writes the bill of materials of an image: `sbom`."""

import argparse
import json
import sys
from contextlib import ExitStack

from sparkbake.bill import Bill, Patch
from sparkbake.comparing import open_contents
from sparkbake.cyclonedx import cyclonedx_json
from sparkbake.dpkg import read_database
from sparkbake.errors import ImageError, UsageError
from sparkbake.labels import OCI
from sparkbake.looks import compiled_of
from sparkbake.manifest import MANIFEST
from sparkbake.project import Project, open_project, write_file
from sparkbake.sbom import components_of
from sparkbake.sourcebill import compiled_bill
from sparkbake.sourceimage import CompiledImage
from sparkbake.spdx import spdx_json
from sparkbake.survey import read_survey
from sparkbake.surveyed import Survey
from sparkbake.tables import say

FORMATS = {"cyclonedx": cyclonedx_json, "spdx": spdx_json}


def sbom(options: argparse.Namespace) -> int:
    """Write the bill of materials of an image, to a file or to the standard output.

    Raises:
        UsageError: the image is in a registry, or the folder of the file is not there.
        ImageError: the image cannot be read, or is none of this project, or of another lock.
    """
    if options.output and not options.output.resolve().parent.is_dir():
        raise UsageError(f"--output: the folder {options.output.resolve().parent} does not exist; make it")
    if options.output and options.output.is_dir():
        raise UsageError(f"--output: {options.output} is a folder, expected a file")
    project = open_project(options.root)
    with ExitStack() as stack:
        name, image = open_contents(project, options.image, platform=None, stack=stack)
        survey = read_survey(image, name, say, compute_capability=project.matrix.chip.compute_capability)
    bill = bill_of(project, survey)
    text = FORMATS[options.format](bill)
    if options.output is None:
        sys.stdout.write(text)
        return 0
    write_file(options.output, text)
    say(f"{options.output}: {len(bill.components)} packages, {options.format}")
    return 0


def bill_of(project: Project, survey: Survey, compiled: CompiledImage | None = None) -> Bill:
    """The bill of an image of this project, by the lock of its row.

    Args:
        compiled: what it should be, if it is a compiled one; its labels say it when left out.

    Raises:
        ImageError: it is none, or of another lock.
    """
    prefix = project.matrix.project.label_prefix
    if compiled := compiled or compiled_of(project, survey.labels):
        packages = read_database(survey.texts).packages
        return compiled_bill(survey, compiled, label_prefix=prefix, os_packages=packages)
    labels = dict(survey.labels)
    tag, base_name = labels.get(OCI + "version"), labels.get(OCI + "base.name")
    row = next((one for one in project.rows if one.tag == tag), None)
    bases = (one for one in project.matrix.bases if base_name is not None and base_name in (one.name, one.image))
    base = next(bases, None)
    if row is None or base is None:
        raise ImageError(
            f"{survey.image}: its labels say that it is {tag} on {base_name}, expected a tag and a base of the matrix"
        )
    reference = next(one.reference for one in project.plan([row], base).targets)
    return components_of(
        survey,
        project.lock(row),
        base=base.name,
        reference=reference,
        label_prefix=prefix,
        os_packages=read_database(survey.texts).packages,
        patches=_patches(survey),
    )


def _patches(survey: Survey) -> tuple[Patch, ...]:
    """The patches that the image's manifest lists."""
    try:
        body = json.loads(survey.texts[MANIFEST])
        return tuple(Patch(**one) for one in body["patches"])
    except (KeyError, TypeError, ValueError) as err:
        raise ImageError(f"{survey.image}: {MANIFEST} is not there, or damaged: {err!r}; make the image anew") from err
