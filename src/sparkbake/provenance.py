"""Keep what is known of how an image came to be, beside its verify report; `publish` attaches it."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparkbake.bake import common_body, target_body
from sparkbake.buildx import BakeResult
from sparkbake.looks import Planned, plan_digest_of, target_in
from sparkbake.project import Project, write_file
from sparkbake.slsa import Builder, inputs_of, provenance_of
from sparkbake.sourceimage import CompiledImage
from sparkbake.sourceslsa import compiled_inputs
from sparkbake.tables import say

SCHEMA = 1


def provenance_path(project: Project, name: str) -> Path:
    """Of the image of a target, by the target's name."""
    return project.build / "reports" / f"{name}.provenance.json"


def keep_provenance(
    project: Project, planned: Sequence[Planned], result: BakeResult, present: Mapping[str, str] | None = None
) -> None:
    """Write the provenance of each image that was built into the engine; what lies there of another build goes.

    Args:
        present: target name to the digest of its image, of those that were there already and were built upon.
    """
    builder = builder_of(os.environ, project.matrix.project.url)
    digests = {**(present or {}), **result.digests}
    for one in planned:
        target = target_in(one)
        path = provenance_path(project, target.name)
        built = result.provenance.get(target.name)
        if built is None:
            path.unlink(missing_ok=True)
            say(f"{target.tag}: BuildKit gave no provenance, so that it cannot be published; update docker buildx")
            continue
        write_file(path, _text(project, one, digests, built, builder))


def _text(
    project: Project, planned: Planned, digests: Mapping[str, str], built: Mapping[str, Any], builder: Builder
) -> str:
    plan_digest = plan_digest_of(project, planned)
    if isinstance(planned, CompiledImage):
        asked, inputs = common_body(planned.target), compiled_inputs(planned, plan_digest, digests)
    else:
        asked, inputs = target_body(planned), inputs_of(planned, plan_digest)
    predicate = provenance_of(built, asked, inputs, builder=builder)
    digest = digests[target_in(planned).name]
    body = {"schema": SCHEMA, "digest": digest, "plan_digest": plan_digest, "predicate": predicate}
    return json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def input_digest(text: str, name: str) -> str | None:
    """The digest of an input, 'sha256:' + 64 hex, as what a build has kept says; None when it does not say it."""
    try:
        inputs = json.loads(text)["predicate"]["buildDefinition"]["resolvedDependencies"]
        return next((f"sha256:{one['digest']['sha256']}" for one in inputs if one.get("name") == name), None)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def builder_of(environment: Mapping[str, str], url: str) -> Builder:
    """Who lets a build run: a workflow of GitHub, as its runner's variables say, or a maintainer by hand.

    https://docs.github.com/en/actions/reference/workflows-and-actions/variables: a keyless signature of the same run
    has the same identity.

    Args:
        url: of the project.
    """
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_WORKFLOW_REF", "GITHUB_RUN_ID", "GITHUB_SHA")
    server, repository, workflow, run, commit = (environment.get(name) for name in names)
    if environment.get("GITHUB_ACTIONS") != "true" or not (server and repository and workflow and run and commit):
        return Builder(id=f"{url}#built-by-hand")
    return Builder(
        id=f"{server}/{workflow}",
        invocation=f"{server}/{repository}/actions/runs/{run}/attempts/{environment.get('GITHUB_RUN_ATTEMPT', '1')}",
        repository=f"{server}/{repository}@{environment.get('GITHUB_REF', commit)}",
        commit=commit,
    )
