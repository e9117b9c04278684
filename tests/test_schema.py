"""Claims about matrix.schema.json: it explains each key to an editor, and knows the same keys as the parser."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from jsonschema import Draft202012Validator
from tests.builders import BAD_MATRICES, ROOT, SMALL_MATRIX, BadMatrix, edited, faults_of
from tests.compiledbuilder import COMPILED_MATRIX
from tests.test_versions import PEP_440, PUBLIC

from sparkbake.consistency import RELEASE_COMPONENTS, RESERVED_LAYERS

SCHEMA: dict[str, Any] = json.loads((ROOT / "matrix.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
FULL: dict[str, Any] = yaml.safe_load(SMALL_MATRIX)
COMPILED: dict[str, Any] = yaml.safe_load(COMPILED_MATRIX)
REVISED: dict[str, Any] = yaml.safe_load(edited('t5: {version: "5.19.0"}', 't5: {version: "5.19.0", revision: "2"}'))

Path = tuple[str | int, ...]


_FAST_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Strings(yaml.SafeLoader):
    """The parser's view: scalars are strings but for true, false and null."""


_Strings.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag.endswith((":bool", ":null"))]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def objects(schema: dict[str, Any], value: Any, path: Path = ()) -> Iterator[tuple[dict[str, Any], Path]]:
    """Each object of the small matrix whose keys are fixed, with its schema."""
    schema = resolved(schema)
    if isinstance(value, list):
        for index, one in enumerate(value):
            yield from objects(schema["items"], one, (*path, index))
    if not isinstance(value, dict):
        return
    if "properties" in schema:
        yield schema, path
    for key, one in value.items():
        below = schema.get("properties", {}).get(key) or next(iter(schema.get("patternProperties", {}).values()))
        yield from objects(below, one, (*path, key))


OBJECTS = list(objects(SCHEMA, FULL))


def changed(path: Path, key: str, value: Any = None) -> dict[str, Any]:
    """The small matrix with a key added to one of its objects, or removed when no value is given."""
    body = copy.deepcopy(FULL)
    inner: Any = body
    for step in path:
        inner = inner[step]
    if value is None:
        del inner[key]
    else:
        inner[key] = value
    return body


def parser_faults(body: dict[str, Any]) -> list[str]:
    """What the parser says about keys; what it says about values that no longer fit each other is left out."""
    told = faults_of(json.dumps(body, indent=2))  # JSON is YAML, too
    return [one for one in told if re.search(r": (missing|unknown key|got neither|got an empty mapping), ", one)]


def dotted(path: Path) -> str:
    return ".".join(map(str, path)) or "the top"


# ---- the schema itself


def test_it_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def schemas(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for one in schema.values():
            yield from schemas(one)
    if isinstance(schema, list):
        for one in schema:
            yield from schemas(one)


def test_no_object_may_have_other_keys() -> None:
    for one in schemas(SCHEMA):
        if one.get("type") == "object":
            assert one["additionalProperties"] is False, one["description"]


def test_every_key_is_explained() -> None:
    for schema, path in OBJECTS:
        for key, one in schema["properties"].items():
            assert re.match(r"\S.*\.$", one.get("description", "")), f"{dotted(path)}: {key}"


def test_every_definition_is_used() -> None:
    used = {one["$ref"].rpartition("/")[2] for one in schemas(SCHEMA) if "$ref" in one}
    assert used == set(SCHEMA["$defs"])


def test_the_small_matrix_has_every_key_so_that_each_is_tried() -> None:
    for schema in (one for one in schemas(SCHEMA) if one.get("type") == "object" and "properties" in one):
        bodies = [
            at(path, full)
            for full in (FULL, COMPILED, REVISED)
            for other, path in objects(SCHEMA, full)
            if other is schema
        ]
        assert set().union(*bodies) == set(schema["properties"]), schema["description"]


def at(path: Path, full: dict[str, Any]) -> dict[str, Any]:
    inner: Any = full
    for step in path:
        inner = inner[step]
    assert isinstance(inner, dict)
    return inner


# ---- the same keys


@pytest.mark.parametrize(("schema", "path"), OBJECTS, ids=[dotted(path) for _schema, path in OBJECTS])
def test_both_refuse_an_unknown_key_and_know_the_same_keys(schema: dict[str, Any], path: Path) -> None:
    body = changed(path, "zzz", "x")
    assert not VALIDATOR.is_valid(body)
    (fault,) = parser_faults(body)
    known = re.search(r"zzz: unknown key, expected one of ([\w, ]+)$", fault)
    assert known is not None
    assert known[1].split(", ") == sorted(schema["properties"])


@pytest.mark.parametrize(
    ("path", "key"), [(path, key) for schema, path in OBJECTS for key in schema["required"]], ids=str
)
def test_both_refuse_a_matrix_without_a_required_key(path: Path, key: str) -> None:
    body = changed(path, key)
    assert not VALIDATOR.is_valid(body)
    (fault,) = parser_faults(body)
    assert f"{key}: missing, expected " in fault or f"{path[-1]}: got an empty mapping, expected " in fault


@pytest.mark.parametrize(
    ("path", "key"),
    [(path, key) for schema, path in OBJECTS for key in at(path, FULL) if key not in schema["required"]],
    ids=str,
)
def test_both_accept_a_matrix_without_an_optional_key(path: Path, key: str) -> None:
    body = changed(path, key)
    if key in ("image", "suites"):  # a base needs one of the two
        assert not VALIDATOR.is_valid(body)
        assert len(parser_faults(body)) == 1
    else:
        assert list(VALIDATOR.iter_errors(body)) == []
        assert parser_faults(body) == []


# ---- the same verdict


@pytest.mark.parametrize("loader", [_Strings, yaml.SafeLoader], ids=["strings", "yaml"])
def test_the_real_matrix_is_valid(loader: type[yaml.SafeLoader]) -> None:
    text = (ROOT / "matrix.yaml").read_text(encoding="utf-8")
    assert list(VALIDATOR.iter_errors(yaml.load(text, Loader=loader))) == []  # noqa: S506  (both are safe)


def test_the_real_matrix_names_the_schema_for_editors() -> None:
    first = (ROOT / "matrix.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=matrix.schema.json"


def test_the_small_matrix_is_valid() -> None:
    assert list(VALIDATOR.iter_errors(FULL)) == []
    assert list(VALIDATOR.iter_errors(COMPILED)) == []


def as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): as_json(one) for key, one in value.items()}
    return [as_json(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("bad", BAD_MATRICES, ids=lambda one: str(one.name))
def test_a_bad_matrix_is_refused_where_a_schema_can_tell(bad: BadMatrix) -> None:
    body = yaml.load(bad.text, Loader=_FAST_LOADER)  # noqa: S506  (it is a safe one)
    assert VALIDATOR.is_valid(as_json(body)) is not bad.in_schema


def definition(name: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMA["$defs"][name])


@given(PEP_440)
def test_every_version_of_pep_440_is_one(version: str) -> None:
    assert definition("version").is_valid(version)


@given(PUBLIC)
def test_every_public_version_may_be_a_release(version: str) -> None:
    (pattern,) = SCHEMA["properties"]["releases"]["patternProperties"]
    assert re.search(pattern, version)


def test_layers_and_components_with_a_meaning_are_those_of_the_parser() -> None:
    assert tuple(SCHEMA["$defs"]["layer"]["properties"]["name"]["not"]["enum"]) == RESERVED_LAYERS
    assert tuple(SCHEMA["properties"]["components"]["required"]) == RELEASE_COMPONENTS
