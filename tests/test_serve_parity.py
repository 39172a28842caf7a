"""What the server answers is what `pipeline.predict` says of the same file, whatever the format."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.serving_validator.settings import ServingValidatorSettings
from pipeline.predict import predict
from tests.images import BAD_IMAGES, ODD_IMAGES
from tests.serving import Client, b64, make_colour_model, running

TOLERANCE = ServingValidatorSettings().tolerance


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a data set with 12 of 16 bits; its probabilities change with each pixel."""
    return make_colour_model(tmp_path_factory.mktemp("parity") / "pets" / "5", 5, measures=True)


@pytest.fixture(scope="module")
def client(model: Path) -> Iterator[Client]:
    with running(model.parent, max_pixels=50_000_000) as client:
        yield client


@pytest.fixture(scope="module")
def expected(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Returns what predict says, by file name."""
    folder = tmp_path_factory.mktemp("files")
    names = [*ODD_IMAGES, *BAD_IMAGES]
    for name in names:
        (folder / name).write_bytes({**ODD_IMAGES, **BAD_IMAGES}[name]())
    return dict(zip(names, predict([str(folder / name) for name in names], model), strict=True))


@pytest.mark.parametrize("name", ODD_IMAGES)
def test_every_odd_image_gets_the_answer_of_predict(
    client: Client, expected: dict[str, dict[str, Any]], name: str
) -> None:
    status, _, answer = client.predict(ODD_IMAGES[name](), kind="application/octet-stream")
    assert status == 200
    wanted = expected[name]
    assert [one["label"] for one in answer["top_k"]] == [one["label"] for one in wanted["top_k"]]
    for given, right in zip(answer["top_k"], wanted["top_k"], strict=True):
        # The order of sums differs with the batch: the serving check's own tolerance.
        assert given["probability"] == pytest.approx(right["probability"], abs=TOLERANCE)


def test_all_of_them_in_one_request_are_answered_alike(client: Client, expected: dict[str, dict[str, Any]]) -> None:
    files = {**ODD_IMAGES, **BAD_IMAGES}
    status, _, answer = client.send_json(
        "/v1/models/pets:predict", {"instances": [b64(make()) for make in files.values()]}
    )
    assert status == 200
    for name, given in zip(files, answer["predictions"], strict=True):
        if name in BAD_IMAGES:
            assert given == {"error": expected[name]["error"]}
        else:
            assert given["labels"] == [one["label"] for one in expected[name]["top_k"]]


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_what_cannot_be_used_is_refused_with_the_reason_of_predict(
    client: Client, expected: dict[str, dict[str, Any]], name: str
) -> None:
    status, _, answer = client.predict(BAD_IMAGES[name](), kind="application/octet-stream")
    assert status == 400
    assert answer["error"] == (expected[name]["error"] if name != "empty.jpg" else "the body is empty; send an image")
    assert json.dumps(answer)
