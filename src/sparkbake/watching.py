"""The command `watch`: list releases of torch and FlashInfer that the matrix lacks, and the vLLM that declares them."""

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, date, datetime

from sparkbake.bump import highest, newest_published
from sparkbake.bumpask import Asker
from sparkbake.errors import UsageError
from sparkbake.lock import Index
from sparkbake.news import HEADERS, WATCHED, News, declaring, highest_of, news_rows, news_text
from sparkbake.project import Project, open_project
from sparkbake.tables import print_table, say
from sparkbake.versions import normalise


def watch(options: argparse.Namespace) -> int:
    """Print what is new; nothing with --markdown where nothing is.

    Raises:
        LockError: the package index cannot be asked.
    """
    if options.older_than_days < 0:
        raise UsageError(f"--older-than-days: got {options.older_than_days}, expected 0 or more")
    if options.json and options.markdown:
        raise UsageError("--json and --markdown exclude each other")
    project = open_project(options.root)
    asker = Asker(matrix=project.matrix, index=Index(url=project.mirrors(options.mirrors).package_index), say=say)
    today = datetime.now(UTC).date()
    found = _news(project, asker, newest_published(today=today, older_than_days=options.older_than_days))
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    elif options.markdown:
        sys.stdout.write(news_text(found, older_than_days=options.older_than_days))
    elif found:
        print_table(HEADERS, news_rows(found))
    else:
        days = options.older_than_days
        print(f"nothing new: the index has no torch or FlashInfer above the matrix's of {days} or more days of age")
    return 0


def _news(project: Project, asker: Asker, published: date) -> list[News]:
    above = {component: highest_of(project.rows, component) for component in WATCHED}
    found = [(name, one) for name in WATCHED for one in asker.find_newer(name, above[name], published)]
    if not found:
        return []
    known = {one.vllm: dict(one.declares) for one in project.matrix.releases}
    # Of any age: whether one may be taken is for bump to say.
    later = asker.find_newer("vllm", highest(project.matrix), datetime.now(UTC).date())
    requires = known | {one.version: dict(asker.requires_of(one.version)) for one in later}
    distributions = {one.name: normalise(one.distribution) for one in project.matrix.components}
    news = []
    for name, one in found:
        declared_by = declaring(distributions[name], one.version, requires)
        lacking = [vllm for vllm in declared_by if vllm not in known]
        news.append(
            News(
                package=distributions[name],
                version=one.version,
                published=one.published.isoformat(),
                highest=above[name],
                declared_by=declared_by,
                bump=lacking[-1] if lacking else None,
            )
        )
    return news
