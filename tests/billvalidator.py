"""What the validators of both formats say of a bill of materials."""

import json
from functools import cache

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from sparkbake.bill import Bill
from sparkbake.cyclonedx import cyclonedx_json
from sparkbake.spdx import spdx_json


@cache
def validator() -> JsonStrictValidator:
    return JsonStrictValidator(SchemaVersion.V1_6)


def faults_of(bill: Bill) -> list[str]:
    """What the validators of both formats say."""
    wrong = validator().validate_str(cyclonedx_json(bill))
    document = JsonLikeDictParser().parse(json.loads(spdx_json(bill)))  # type: ignore[no-untyped-call]
    faults = [] if wrong is None else [str(wrong.data.message)]
    return faults + [one.validation_message for one in validate_full_spdx_document(document)]
