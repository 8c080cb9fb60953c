"""Everything that an OpenAPI document allows and much that it forbids, asked of a running server by schemathesis."""

from collections.abc import Iterator, Mapping
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


def ask_for_everything(address: str, document: Mapping[str, Any], headers: Mapping[str, str], examples: int) -> int:
    """Requests that were sent: up to so many right and so many wrong ones for each operation, the same every time.

    Raises schemathesis' failures, which name the operation, the check and a curl command that repeats the request.
    """
    sent = 0
    for operation, mode in operations(document):

        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            nonlocal sent
            sent += 1
            case.call_and_validate(base_url=address, headers=dict(headers), checks=CHECKS, timeout=30)

        ask()
    return sent


def operations(document: Mapping[str, Any]) -> Iterator[tuple[schemathesis.APIOperation, schemathesis.GenerationMode]]:
    """Each with right requests, and with wrong ones where it has a body: any text is right in a path."""
    for result in schemathesis.openapi.from_dict(dict(document)).get_all_operations():
        operation = result.ok()
        yield operation, schemathesis.GenerationMode.POSITIVE
        if operation.body:
            yield operation, schemathesis.GenerationMode.NEGATIVE
