"""Show a plan of compiled images, to people and to machines, without building any."""

import json
from collections.abc import Iterator, Mapping

from sparkbake.buildcache import TargetCache
from sparkbake.sourcelabels import wheel_commit
from sparkbake.sourcemodel import SourceTarget
from sparkbake.sourceresolve import SourcePlan
from sparkbake.tables import print_table


def dry_run(plan: SourcePlan, caches: Mapping[str, TargetCache], *, as_json: bool) -> int:
    """Print what a build would be made of; the exit status."""
    if as_json:
        print(json.dumps(plan_body(plan, caches), indent=2, sort_keys=True))
        return 0
    for target in plan.targets:
        print_table(
            ("source", "asked for", "commit", "wheel built from"),
            [
                (one.name, one.tag or "", one.commit or "open", wheel_commit(target.labels, one.name) or "")
                for one in (*target.sources, *(fetch.source for fetch in target.fetches))
            ],
            title=f"{target.reference} ({target.platform})",
        )
        print_table(("", ""), _facts(target, plan, caches[target.name]))
    if plan.open_pins:
        print_table(("open pin",), [(one,) for one in plan.open_pins], title="not known, so that no build begins")
    return 0


def _facts(target: SourceTarget, plan: SourcePlan, cache: TargetCache) -> Iterator[tuple[str, str]]:
    if target.name in plan.reusable:
        yield "built", "unless one of the same lock and recipe is in the engine or the registry"
    yield "torch for", target.torch_arch_list
    if target.environment:
        if target.variant:
            yield "variant", target.variant
        yield "vLLM for", target.vllm_arch_list
        yield "patches", ", ".join(one.name for one in target.patches) or "none"
        yield "locked", f"{len(target.environment.wheels)} packages by hash, Python {target.environment.python}"
    for override in target.overrides:
        yield f"override: {override.package}", override.reason
    for setting in target.settings:
        yield f"{setting.name}={setting.value}", setting.reason
    for reference in (*cache.read, *cache.others):
        yield "cache from", reference
    if cache.write:
        yield "cache to", cache.write


def plan_body(plan: SourcePlan, caches: Mapping[str, TargetCache]) -> dict[str, object]:
    """A plan for machines."""
    return {
        "open_pins": list(plan.open_pins),
        "targets": [
            {
                "name": one.name,
                "reference": one.reference,
                "platform": one.platform,
                "variant": one.variant,
                "reusable": one.name in plan.reusable,
                "parents": dict(one.parents),
                "sources": {
                    source.name: {
                        "tag": source.tag,
                        "commit": source.commit,
                        "wheel_built_from": wheel_commit(one.labels, source.name),
                    }
                    for source in one.sources
                },
                "fetches": {
                    fetch.source.name: {"variable": fetch.variable, "commit": fetch.source.commit}
                    for fetch in one.fetches
                },
                "patches": [patch.name for patch in one.patches],
                "versions": dict(one.versions),
                "overrides": {override.package: override.reason for override in one.overrides},
                "settings": {setting.name: setting.value for setting in one.settings},
                "labels": dict(one.labels),
                "cache": {"from": [*caches[one.name].read, *caches[one.name].others], "to": caches[one.name].write},
            }
            for one in plan.targets
        ],
    }
