"""The command that says which tuned config vLLM opens for a model: `moe`; and how that looks in a terminal."""

import argparse
import json
import posixpath
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from sparkbake.comparing import open_contents
from sparkbake.errors import UsageError
from sparkbake.fields import read_text
from sparkbake.findings import Finding
from sparkbake.modelconfig import BF16, Model, described, parse_model
from sparkbake.moe import (
    DTYPES,
    GB10_DEVICE,
    chosen_rung,
    is_for_gb10,
    ladder,
    parse_name,
    triton_version,
)
from sparkbake.moeanswer import Answer, answer_for
from sparkbake.moecheck import check_config
from sparkbake.moecompile import compile_config, kernel_sources, prepare
from sparkbake.moeread import ConfigFile, Configs, read_configs
from sparkbake.moeresources import COLUMNS, Compiled, findings_of, rows
from sparkbake.moerules import Kernel, parse_rules
from sparkbake.paths import shown
from sparkbake.project import Project, open_project
from sparkbake.tables import print_table, say

SCHEMA = 1
BATCHES = tuple(2**power for power in range(13))  # 1 to 4096

_Checked = tuple[ConfigFile, Sequence[Finding]]


def moe(options: argparse.Namespace) -> int:
    """Print which tuned config vLLM opens on a GB10, and check it; without a model, check all that are for a GB10.

    Raises:
        UsageError: the model has no experts, cannot be split so, or is not described; the image has no vLLM.
        ImageError: the image cannot be read.
    """
    project = open_project(options.root)
    rules_path = project.root / "moe_configs" / "rules.yaml"
    rules = parse_rules(read_text(rules_path), rules_path.name)
    model = asked_model(options)
    configs = _open(project, options)
    answer = answer_for(model, configs, rules, tp=options.tp, expert_parallel=options.ep) if model else None
    checked: list[_Checked] = [
        (one, check_config(one.path, one.text)) for one in configs.files if options.all or _counts(one, answer)
    ]
    compiled: tuple[Compiled, ...] = ()
    if options.compile:
        checked, compiled = _compile_all(project, configs, checked, triton=options.triton)
    if options.json:
        print(json.dumps(as_json(configs, answer, checked), indent=2, sort_keys=True))
    else:
        print_answer(configs, answer, checked)
        if compiled:
            print_table(COLUMNS, rows(compiled), title="compiled for the chip")
    decisive = [found for one, found in checked if _counts(one, answer)]
    return int(any(one.severity == "error" for found in decisive for one in found))


def _compile_all(
    project: Project, configs: Configs, checked: Sequence[_Checked], *, triton: str | None
) -> tuple[list[_Checked], tuple[Compiled, ...]]:
    """Compile the entries of all files without errors.

    Returns:
        The files with what that found, too, and what was compiled.
    """
    version = triton or _triton_of(project, configs.version)
    python = prepare(version, project.root, project.cache)
    done: list[_Checked] = []
    compiled: list[Compiled] = []
    with kernel_sources(configs.version, project.cache) as sources:
        for file, found in checked:
            named = parse_name(posixpath.basename(file.path))
            if named is None or any(one.severity == "error" for one in found):
                done.append((file, found))
                continue
            say(f"compiling {posixpath.basename(file.path)} with Triton {version}, which takes up to some minutes")
            some = compile_config(named[0], file.text, python=python, sources=sources, root=project.root)
            compiled += some
            done.append((file, [*found, *findings_of(file.path, some)]))
    return done, tuple(compiled)


def _triton_of(project: Project, vllm: str) -> str:
    for row in project.rows:
        if row.release.vllm == vllm:
            return dict(row.versions)["triton"]
    raise UsageError(f"no row has vLLM {vllm}, so that its Triton is not known; name one: --triton VERSION")


def _counts(file: ConfigFile, answer: Answer | None) -> bool:
    """Whether the exit status is about this file."""
    return file == answer.found if answer else is_for_gb10(posixpath.basename(file.path))


def asked_model(options: argparse.Namespace) -> Model | None:
    """The model of --model, or of --experts and the like; None when none is asked for.

    Raises:
        UsageError: it cannot be told.
    """
    words = (options.experts, options.intermediate, options.dtype)
    blocks = _block_shape(options.block_shape)
    if options.model is None and not any((*words, blocks)):
        if options.tp != 1 or options.ep:
            raise UsageError("got --tp or --ep without a model; expected --model, or --experts with --intermediate")
        return None
    if options.model is not None:
        if any((*words, blocks)):
            raise UsageError("got --model and a description of its experts; expected one of both")
        return _read_model(options.model)
    if not all(words) or min(options.experts, options.intermediate) < 1:
        raise UsageError("expected --experts, --intermediate, both from 1, and --dtype: they go together")
    kinds = (BF16, *DTYPES)
    if options.dtype not in kinds:
        raise UsageError(f"--dtype: got '{options.dtype}', expected one of {', '.join(kinds)}")
    if blocks and options.dtype != "fp8_w8a8":
        raise UsageError("--block-shape goes with --dtype fp8_w8a8: no other one has blocks in the name")
    return described(
        experts=options.experts, intermediate=options.intermediate, dtype=options.dtype, block_shape=blocks
    )


def _block_shape(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]*),([1-9][0-9]*)", text, re.ASCII)
    if not found:
        raise UsageError(f"--block-shape: got '{text}', expected two sizes such as 128,128")
    return int(found[1]), int(found[2])


def _read_model(path: Path) -> Model:
    file = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise UsageError(f"--model: {file}: cannot be read: {err}; expected a model's config.json") from err
    if not isinstance(config, dict):
        raise UsageError(f"--model: {file}: got a JSON {type(config).__name__}, expected an object")
    return parse_model(str(file), config)


# ---- what is in the image


def _open(project: Project, options: argparse.Namespace) -> Configs:
    with ExitStack() as stack:
        name, image = open_contents(project, options.image, platform=options.platform, stack=stack)
        return read_configs(image, name, say)


def as_json(
    configs: Configs, answer: Answer | None, checked: Sequence[tuple[ConfigFile, Sequence[Finding]]]
) -> dict[str, object]:
    """An answer for machines; a key may be added within a schema, none changes or goes."""
    return {
        "schema": SCHEMA,
        "image": configs.image,
        "digest": configs.digest,
        "vllm": configs.version,
        "device": GB10_DEVICE,
        "answer": None if answer is None else _answer_json(answer),
        "files": [{**_file_json(one), "findings": [asdict(finding) for finding in found]} for one, found in checked],
    }


def _answer_json(answer: Answer) -> dict[str, object]:
    rungs = ladder(answer.found.text) if answer.found else ()
    return {
        "state": answer.state,
        "opens": answer.opens,
        "why": answer.why or None,
        "shape": asdict(answer.shape),
        "name": answer.name,
        "looked_in": answer.looked_in,
        "found": _file_json(answer.found) if answer.found else None,
        "kernel": asdict(answer.kernel) if answer.kernel else None,
        "chosen": {str(tokens): chosen_rung(rungs, tokens) for tokens in BATCHES} if rungs else None,
    }


def _file_json(file: ConfigFile) -> dict[str, object]:
    return {
        "path": file.path,
        "layer": file.layer_name,
        "sha256": file.sha256,
        "triton_version": triton_version(file.text),
        "ladder": ladder(file.text),
    }


# ---- how it looks


def print_answer(
    configs: Configs, answer: Answer | None, checked: Sequence[tuple[ConfigFile, Sequence[Finding]]]
) -> None:
    """An answer for a person."""
    title = f"{configs.image}: vLLM {configs.version} on a GB10"
    if answer:
        print_table(("", ""), _answer_rows(answer), title=title)
        rungs = ladder(answer.found.text) if answer.found else ()
        if rungs:
            print_table(("tokens", "entry"), [(str(one), str(chosen_rung(rungs, one))) for one in BATCHES])
            print()
    if checked:
        rows = [(shown(one.path), one.sha256[:12], str(len(ladder(one.text))), _count(found)) for one, found in checked]
        print_table(("config", "sha256", "entries", "check"), rows, title=None if answer else title)
    findings = [one for _file, found in checked for one in found]
    if findings:
        print_table(
            ("finding", "severity", "file", "found", "expected", "what to do"),
            [
                (one.id, one.severity, shown(posixpath.basename(one.subject)), one.found, one.expected, one.remedy)
                for one in findings
            ],
            title=f"{len(findings)} findings",
        )
    print(last_line(configs, answer))


def _answer_rows(answer: Answer) -> list[tuple[str, str]]:
    shape = answer.shape
    blocks = "none" if shape.block_shape is None else "{}x{}".format(*shape.block_shape)
    return [
        ("experts on each GPU", f"{shape.experts} with an inner size of {shape.intermediate}"),
        ("dtype, blocks", f"{shape.dtype or 'none in the name'}, {blocks}"),
        ("name", answer.name),
        *(("looks for", shown(path)) for path in answer.looked_in),
        ("kernel", _kernel_line(answer.kernel)),
    ]


def _kernel_line(kernel: Kernel | None) -> str:
    if kernel is None:
        return "not known for this release: what is said here holds for Triton"
    if kernel.reads:
        return f"{kernel.name}, which opens configs: {kernel.reason}"
    asked = f"; Triton does with {kernel.asked}" if kernel.asked else ""
    return f"{kernel.name}, which opens no config: {kernel.reason}{asked}"


def _count(found: Sequence[Finding]) -> str:
    errors = sum(one.severity == "error" for one in found)
    return f"errors: {errors}, warnings: {len(found) - errors}" if found else "good"


def last_line(configs: Configs, answer: Answer | None) -> str:
    """All in one line: "vLLM 1.2 opens <path>", "... falls to its defaults", "... looks for no config: ..."."""
    who = f"vLLM {configs.version}"
    if answer is None:
        count = sum(is_for_gb10(posixpath.basename(one.path)) for one in configs.files)
        return f"{who}: {count} of its {len(configs.files)} configs are for a GB10"
    if answer.state == "unread":
        return f"{who} looks for no config: {answer.why}"
    deed = (
        f"opens {shown(answer.found.path)}"
        if answer.found
        else "falls to its defaults and warns: 'Using default MoE config'"
    )
    if answer.kernel and not answer.kernel.reads:
        return f"{who} runs {answer.kernel.name} and opens no config; with {answer.kernel.asked} it {deed}"
    return f"{who} {deed}"
