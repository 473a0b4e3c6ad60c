"""Requests made from the server's own OpenAPI document, good and bad: none ends in a 5xx."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from . import scoring_models as models
from . import scoring_servers as servers

pytestmark = pytest.mark.slow

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def address(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("fuzz")
    models.makers()["words"](folder / "model")
    uri = servers.registered(shared / "mlflow.db", folder, "words", folder / "model")
    with servers.ours(folder, "words", uri) as address:
        yield address


@pytest.fixture(scope="module")
def api(address: str) -> Any:
    return schemathesis.openapi.from_url(f"{address}/openapi.json")


def test_what_the_document_describes_is_answered_as_it_says(api: Any) -> None:
    operations = [found.ok() for found in api.get_all_operations()]
    assert {operation.label for operation in operations} >= {"POST /invocations", "POST /feedback"}
    for operation in operations:
        posts = operation.method == "post"
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if posts else (None,):
            strategy = operation.as_strategy(**({} if mode is None else {"generation_mode": mode}))

            @settings(
                max_examples=80 if posts else 3,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=strategy)
            def ask(case: Any) -> None:
                case.call_and_validate(checks=CHECKS)

            ask()


def test_it_still_predicts(address: str) -> None:
    body, kind = models.good("words")["records"]
    done = httpx.post(f"{address}/invocations", content=body, headers={"content-type": str(kind)})
    assert done.status_code == 200, done.text
