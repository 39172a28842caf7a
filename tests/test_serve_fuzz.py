"""The server holds to its own OpenAPI description, whatever is made up from it."""

from collections import Counter
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from pipeline.serving.app import Routes
from tests.serving import Client, make_colour_model, paint, running

ALLOWED = {200, 400, 404, 405, 413, 503}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("fuzz") / "colours"
    make_colour_model(root / "1", 1)
    with running(root, routes=Routes("/health", "/vertex"), max_images=4) as client:
        yield client


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_made_up_requests_get_described_answers(client: Client, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{client.port}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 12
    seen: Counter[int] = Counter()
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and operation.method == "get" and not operation.path_parameters:
            continue  # Nothing of it can be wrong.

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=4, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        def ask(case: schemathesis.Case) -> None:
            # What is no picture fits the description of one, and a wrong Content-Length is the client's.
            response = case.call_and_validate(excluded_checks=[positive_data_acceptance, negative_data_rejection])
            assert response.status_code in ALLOWED
            assert response.headers["x-request-id"]
            seen[response.status_code] += 1

        ask()
    assert seen[400] > 5


def test_after_all_that_it_still_answers(client: Client) -> None:
    assert client.predict(paint("red"))[2]["label"] == "red"
    server = client.server
    assert (server.answering.images, server._bodies.held, server.versions.current.users) == (0, 0, 0)
