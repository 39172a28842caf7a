"""`python -m pipeline.aws` against moto's server: deploy, canary, rollback, serverless, batch transform, delete."""

import contextlib
import gzip
import io
import json
import re
import shlex
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml

from data.amazon_s3.client import _make_client
from data.errors import UserError
from pipeline import aws
from pipeline.model_versions import list_versions
from pipeline.sagemaker import calls, limits
from pipeline.sagemaker.archive import read_model, same_model, write_archive
from pipeline.sagemaker.calls import Aws, pages
from tests.sagemaker_stand_in import ACCOUNT, BASE, REGION, Fault, StandIn, make_version, on_stand_in
from tests.small_runs import Folder, make_facts

ROOT = Path(__file__).parent.parent
WHERE = ["--region", REGION, "--endpoint", "digits"]
ALL = [word for key, value in BASE.items() for word in (f"--{key}", value)]


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[StandIn, Aws]]:
    with on_stand_in() as found:
        yield found


@pytest.fixture
def services(world: tuple[StandIn, Aws], monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Empty, and asked by one client: each new one would read the service's model again."""
    found, client = world
    found.reset()
    monkeypatch.setattr(calls, "Aws", lambda region: client)
    yield found
    assert not found.wrong


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("versions") / "digits"
    for version in (1, 2, 3):
        make_version(root, version)
    make_version(root, 4, "model 3")  # A copy of 3.
    return root


def run(*arguments: object) -> int:
    return aws.main([str(argument) for argument in arguments])


def deploy(versions: Path, version: int, *more: object) -> int:
    return run("deploy", *ALL, "--model", versions / str(version), *more)


def shares(services: StandIn, endpoint: str = "digits") -> dict[int, float]:
    """Returns the weight of each version that serves."""
    return {int(name.split("-")[-2]): weight for name, weight in services.serving(endpoint).items()}


def variants(services: StandIn, endpoint: str = "digits") -> list[dict[str, Any]]:
    name = services.backend.endpoints[endpoint].endpoint_config_name
    found: list[dict[str, Any]] = services.backend.endpoint_configs[name].production_variants
    return found


def test_a_deployment_its_canary_and_its_whole_traffic(
    services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(versions, 1) == 0
    told = capsys.readouterr().out
    assert "endpoint digits: Creating ...\nversion 1 serves at endpoint digits, eu-central-1\n" in told
    assert re.search(r"  stable    version 1  100 % of the requests  1 x ml\.m5\.large  digits-1-[0-9a-f]{10}\n", told)
    assert shares(services) == {1: 100.0}
    (archive,) = services.objects()
    assert re.fullmatch(r"bucket/models/1-[0-9a-f]{16}/model\.tar\.gz", archive)
    before = list(services.calls)
    assert deploy(versions, 1) == 0  # again: nothing is made
    assert not [call for call in services.calls[len(before) :] if re.search(r":(Create|Update|Put|Delete)", call)]
    assert deploy(versions, 2, "--traffic-percent", 10) == 0
    assert shares(services) == {1: 90.0, 2: 10.0}
    assert services.calls.count("sagemaker:UpdateEndpoint") == 1
    assert deploy(versions, 2, "--traffic-percent", 50) == 0
    assert shares(services) == {1: 50.0, 2: 50.0}
    assert services.calls.count("sagemaker:UpdateEndpoint") == 1  # by weights alone
    assert deploy(versions, 2) == 0
    assert shares(services) == {2: 100.0}
    capsys.readouterr()
    assert run("status", *WHERE) == 0
    assert re.search(r"  before    version 1  digits-1-[0-9a-f]{10}\n$", capsys.readouterr().out)


def test_a_canary_leaves_as_many_instances_as_there_are(services: StandIn, versions: Path) -> None:
    assert deploy(versions, 1, "--aws-set", "tags.team=vision", "startup_seconds=900") == 0
    (live,) = services.backend.endpoints["digits"].production_variants
    live["DesiredInstanceCount"] = live["CurrentInstanceCount"] = 4  # automatic scaling
    for percent in (20, 30):
        assert deploy(versions, 2, "--traffic-percent", percent, "--instance-type", "ml.c5.xlarge") == 0
        assert [
            (one["VariantName"], one["InstanceType"], one["InitialInstanceCount"]) for one in variants(services)
        ] == [("stable", "ml.m5.large", 4), ("canary", "ml.c5.xlarge", 1)]
    assert services.calls.count("sagemaker:UpdateEndpoint") == 1
    (model, _) = services.backend._models.values()
    assert model.tags == [{"Key": "team", "Value": "vision"}]
    assert variants(services)[0]["ContainerStartupHealthCheckTimeoutInSeconds"] == 900


def test_a_version_in_s3_is_deployed_as_one_here(
    world: tuple[StandIn, Aws], services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _make_client.cache_clear()
    for path in sorted((versions / "2").rglob("*.*")):
        key = f"pushed/{path.relative_to(versions)}"
        world[1].call("s3", "put_object", Bucket="bucket", Key=key, Body=path.read_bytes())
    assert run("deploy", *ALL, "--model", "s3://bucket/pushed") == 0
    there = services.kept()
    assert shares(services) == {2: 100.0}
    services.calls.clear()
    assert deploy(versions, 2) == 0  # It is the same.
    assert services.kept() == there
    assert not [call for call in services.calls if re.search(r":(Create|Update|Put|Delete)", call)]
    _make_client.cache_clear()


def test_what_a_canary_cannot_do_is_one_line(
    services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(version: int, *more: object) -> str:
        assert deploy(versions, version, *more) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err.removeprefix("error: ")

    assert refused(1, "--traffic-percent", 10).startswith(
        "traffic_percent is 10, but endpoint digits serves nothing that could have the rest; deploy with all"
    )
    assert not any(services.kept().values())
    serverless = ("--serverless-memory-mb", 4096)
    assert refused(1, *serverless, "--traffic-percent", 10).startswith(
        "traffic_percent is 10, but a serverless endpoint (serverless.memory_mb) has one variant and so no canary"
    )
    assert deploy(versions, 1, *serverless, "--serverless-concurrency", 7) == 0
    assert "serverless, 4096 MB, 7 at a time" in capsys.readouterr().out
    assert variants(services)[0]["ServerlessConfig"] == {"MemorySizeInMB": 4096, "MaxConcurrency": 7}
    assert refused(2, "--traffic-percent", 10).startswith(
        "traffic_percent is 10, but endpoint digits is serverless, which has one variant and so no canary"
    )
    assert deploy(versions, 2, *serverless) == 0
    assert deploy(versions, 2) == 0  # This way round SageMaker does it.
    assert refused(3, *serverless).startswith(
        "endpoint digits: serves on instances, and SageMaker makes no serverless endpoint of one; choose another name"
    )
    assert refused(2, "--traffic-percent", 10).startswith(
        "traffic_percent is 10, but version 2 has the rest of endpoint digits itself; give another version"
    )


def test_a_rollback_says_what_it_would_do_and_does_it(
    services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in (1, 2, 3, 4):
        assert deploy(versions, version) == 0
    capsys.readouterr()
    why = ["--reason", 'confuses "3" and 8', "--who", "Anna"]
    assert run("rollback", *WHERE, *why) == 0
    told = capsys.readouterr().out
    assert told.startswith(
        "endpoint digits\n  aside     version 4, version 3\n  served    version 2\nnothing was changed;"
    )
    assert shares(services) == {4: 100.0}
    repeat = shlex.split(re.findall(r"python -m pipeline\.aws (.*) does it", told)[0])
    assert run(*repeat) == 0
    assert shares(services) == {2: 100.0}
    assert re.search(
        r"  before    version 3  digits-3-\w{10}  rolled back 20\d\d-\S+ \S+ by Anna: confuses _3_ and 8\n",
        capsys.readouterr().out,
    )
    assert services.marked() == ["digits-3", "digits-4"]
    assert run(*repeat) == 0  # given twice, it does nothing more
    assert "  version 2 serves; there is nothing to roll back\n" in capsys.readouterr().out
    assert shares(services) == {2: 100.0}
    # A canary is rolled back to what is beside it, which loses no request while the endpoint is changed.
    assert deploy(versions, 3, "--traffic-percent", 30) == 0
    assert services.marked() == ["digits-4"]
    services.calls.clear()
    assert run("rollback", *WHERE, "--yes") == 0
    changes = [call for call in services.calls if ":Update" in call or ":AddTags" in call]
    assert changes == [
        "sagemaker:UpdateEndpointWeightsAndCapacities",
        "sagemaker:AddTags",
        "sagemaker:UpdateEndpoint",
    ]
    assert shares(services) == {2: 100.0}
    assert run("rollback", *WHERE, "--yes") == 0
    assert shares(services) == {1: 100.0}
    capsys.readouterr()
    for more, message in (
        ([], "endpoint digits: version 1 is the only model that it served; nothing would be left; deploy another one"),
        (["--to", 9], "--to 9: was not served by endpoint digits; it has 4, 3, 2, 1"),
        (["--to", 2], "--to 2: is newer than version 1, which serves; deploy it"),
    ):
        assert run("rollback", *WHERE, *more) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")


def test_of_a_version_that_was_deployed_in_several_ways_a_rollback_takes_the_latest(
    services: StandIn, versions: Path
) -> None:
    for batch in range(1, 5):
        assert deploy(versions, 1, f"--server-options=--batch {batch}") == 0
        (latest,) = services.serving("digits")
        assert deploy(versions, 2) == 0
        assert run("rollback", *WHERE, "--yes") == 0
        assert list(services.serving("digits")) == [latest]


def test_a_rollback_takes_the_blessing_back_here_too(
    services: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(tmp_path / "out", make_facts(tmp_path))
    folder.run(1)
    folder.run(2, images=2)
    first, second = folder.served()
    served = folder.output.serving_model_dir / "p"
    for version in (first, second):
        assert run("deploy", *ALL, "--model", served / str(version)) == 0
    capsys.readouterr()
    # A folder that does not fit is told before anything is changed.
    other = make_version(tmp_path / "other", 9).folder.parent
    assert run("rollback", *WHERE, "--model", other, "--yes") == 2
    assert f"--to {first}: is no version in" in capsys.readouterr().err
    assert list(shares(services)) == [second]
    here = ["--model", folder.output.root, "--reason", "bad"]
    assert run("rollback", *WHERE, *here) == 0
    told = capsys.readouterr().out
    assert f"  blessing  of {second}, pipeline_root/Trainer/" in told
    assert (folder.served(), list(shares(services))) == ([first, second], [second])
    assert run("rollback", *WHERE, *here, "--yes") == 0
    assert (folder.served(), list(shares(services))) == ([first], [first])
    blessings = [one for one in folder.artifacts() if one.type == "ModelBlessing"]
    assert sorted(one.custom_properties["blessed"].int_value for one in blessings) == [0, 1]
    assert list(list_versions(str(served))) == [first]  # What the next deployment takes.
    capsys.readouterr()
    assert run("deploy", *ALL, "--model", served / f"rolled-back-{second}") == 2
    assert "(one that was rolled back is promoted first: python -m pipeline.models promote)" in capsys.readouterr().err


def test_delete_removes_what_was_made_and_says_what_it_leaves(
    services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(versions, 1) == 0
    assert (
        run("deploy", *ALL, "--endpoint", "digits-2", "--model", versions / "1") == 0
    )  # A neighbour with a near name.
    assert deploy(versions, 2, "--traffic-percent", 10) == 0
    capsys.readouterr()
    kept = services.kept()
    assert run("delete", *WHERE) == 0
    assert services.kept() == kept
    told = capsys.readouterr().out
    assert told.count("  removes  ") == 1 + 2 + 2
    assert told.count("  leaves   s3://bucket/models/") == 2
    assert told.endswith("nothing was removed; --yes does it\n")
    assert run("delete", *WHERE, "--yes") == 0
    left = services.kept()
    assert left["endpoints"] == ["digits-2"]
    assert [len(left[kind]) for kind in ("configs", "models", "objects")] == [1, 1, 2]
    capsys.readouterr()
    assert run("delete", *WHERE, "--yes") == 2
    assert capsys.readouterr().err == "error: endpoint digits: there is nothing of it in this region and account\n"


def test_a_neighbour_s_transform_is_not_asked_about_which_the_policy_does_not_allow(
    world: tuple[StandIn, Aws], services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(versions, 1) == 0
    put_images(world[1], {"a.jpg": b"one"})
    mine = ["--endpoint", "my-digits", "--model", versions / "1", *TRANSFORM]
    assert run("transform", *ALL, *mine, "--no-wait") == 0
    services.fault = Fault("denied", -1, after=False, lasts=True, operation="sagemaker:DescribeTransformJob")
    assert run("delete", *WHERE, "--yes") == 0
    assert not services.kept()["endpoints"]


def test_an_endpoint_of_somebody_else_is_left_alone(
    world: tuple[StandIn, Aws], services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = world[1]
    variant = {"VariantName": "AllTraffic", "ModelName": "theirs", "InstanceType": "ml.m5.large"}
    variant = {**variant, "InitialInstanceCount": 1, "InitialVariantWeight": 1.0}  # type: ignore[dict-item]
    image = {"Image": "image", "ModelDataUrl": "s3://bucket/theirs"}
    client.call("s3", "put_object", Bucket="bucket", Key="theirs", Body=b"")
    client.call("sagemaker", "create_model", ModelName="theirs", PrimaryContainer=image, ExecutionRoleArn=BASE["role"])
    client.call("sagemaker", "create_endpoint_config", EndpointConfigName="theirs", ProductionVariants=[variant])
    client.call("sagemaker", "create_endpoint", EndpointName="digits", EndpointConfigName="theirs")
    kept = services.kept()
    for words in (
        ["deploy", *ALL, "--model", versions / "1"],
        ["rollback", *WHERE, "--yes"],
        ["delete", *WHERE, "--yes"],
    ):
        assert run(*words) == 2
        assert capsys.readouterr().err == (
            "error: endpoint digits: has the configuration theirs, which pipeline.aws did not make; choose another"
            " name\n"
        )
    assert services.kept() == kept


def test_a_dry_run_prints_the_calls_and_sends_none(
    services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "boto3", None)
        without.setattr(calls, "Aws", None)
        assert deploy(versions, 1, "--dry-run") == 0
        printed = capsys.readouterr().out
        assert deploy(versions, 2, "--dry-run", "--traffic-percent", 10) == 0
        canary = capsys.readouterr().out
    assert not services.calls
    assert printed.endswith("nothing was sent\n")
    assert "    ExecutionRoleArn: arn:aws:iam::123456789012:role/runs\n" in printed
    planned = re.findall(r"^\w+ (\w+)$", printed, re.MULTILINE)
    assert deploy(versions, 1) == 0
    sent = [re.sub(r"(?<!^)(?=[A-Z])", "_", call.partition(":")[2]).lower() for call in services.calls]
    names = {"head_object": "get_object", "upload_file": "put_object"}
    assert [names.get(one, one) for one in planned][:9] == sent[:9]  # up to the making of the endpoint
    assert planned[8] == "create_endpoint"
    (model,) = services.backend._models
    assert f"    ModelName: {model}\n" in printed
    capsys.readouterr()
    assert deploy(versions, 2, "--traffic-percent", 10) == 0
    told = re.findall(r"    ProductionVariants: (.*)", canary)[0].replace("MODEL-THAT-SERVES", model)
    assert json.loads(told) == variants(services)


def put_images(client: Aws, names: dict[str, bytes]) -> None:
    for name, content in names.items():
        client.call("s3", "put_object", Bucket="bucket", Key=f"photos/{name}", Body=content)


TRANSFORM = ["--input", "s3://bucket/photos", "--output", "s3://bucket/answers/"]


def test_a_transform_asks_about_each_image_and_names_those_without_a_result(
    world: tuple[StandIn, Aws], services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(folder: Path, environment: dict[str, str]) -> Any:
        assert (folder / "1" / "saved_model.pb").read_text() == "model 1"
        assert environment == {"SERVE_OPTIONS": "--batch 4"}
        return lambda body, kind: (400, b"") if body == b"corrupt" else (200, b'{"label": "3"}')

    services.start, services.root = start, versions.parent / "transform"
    put_images(world[1], {"a.jpg": b"one", "deep/b c.PNG": b"two", "notes.csv": b"x", "empty.jpg": b"", "deep/": b""})
    words = ["transform", *ALL, "--model", versions / "1", *TRANSFORM, "--server-options=--batch 4"]
    assert run(*words) == 0
    told = capsys.readouterr().out
    assert "left out: empty.jpg, notes.csv, which are no images or empty\n" in told
    assert "started; 2 images of s3://bucket/photos\n" in told
    job = re.findall(r"job (digits-\w{10}-1): Completed, 2 of 2 results in s3://bucket/answers/\1\n$", told)[0]
    results = [f"bucket/answers/{job}/{name}.out" for name in ("a.jpg", "deep/b c.PNG")]
    assert set(results) <= set(services.objects())
    sent = services.backend.transform_jobs[job]
    assert (sent.max_payload_in_mb, sent.max_concurrent_transforms) == (1, 4)
    assert (sent.transform_input["ContentType"], sent.transform_input["SplitType"]) == ("image/*", "None")
    # The same again is the same job, which is not paid twice.
    services.calls.clear()
    assert run(*words) == 0
    assert "was started before, of the same images, model and settings" in capsys.readouterr().out
    assert not [call for call in services.calls if ":Create" in call]
    put_images(world[1], {"c.jpg": b"corrupt"})
    for attempt in (1, 2):  # One that ended badly is tried anew.
        assert run(*words) == 1
        told = capsys.readouterr().out
        assert f"-{attempt}: Failed (c.jpg: Bad HTTP status received from algorithm: 400), 2 of 3 results in" in told
        assert told.endswith("; no result of c.jpg\n")
    # One of the same name in another folder has its result: that is not this one's.
    put_images(world[1], {"deep/c.jpg": b"two"})
    assert run(*words) == 1
    assert capsys.readouterr().out.endswith("; no result of c.jpg\n")
    assert run("delete", *WHERE, "--yes") == 0
    assert not services.kept()["models"]


def test_what_a_transform_cannot_do_is_one_line(
    world: tuple[StandIn, Aws], services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["transform", *ALL, "--model", versions / "1"]

    def refused(*more: object) -> str:
        assert run(*words, *more) == 2
        return capsys.readouterr().err.removeprefix("error: ")

    for more in ((), ("--check",), ("--dry-run",)):
        assert refused(*more) == (
            "transform.input and transform.output must be known; give --input s3://... --output s3://...\n"
        )
    assert refused(*TRANSFORM).startswith("transform.input s3://bucket/photos/: holds no images (.jpg, ")
    assert refused(*TRANSFORM, "--input", "s3://nowhere/photos").startswith("s3 list_objects_v2 nowhere: not found")
    put_images(world[1], {"large.jpg": bytes(26_000_000)})
    assert refused(*TRANSFORM).startswith(
        "transform.max_concurrent is 4, but s3://bucket/photos/large.jpg is 26.0 MB, and all that one machine is asked"
        " about at a time may be 100 MB; use at most 3"
    )
    assert run(*words, *TRANSFORM, "--max-concurrent", 3, "--no-wait") == 0
    capsys.readouterr()
    assert run("delete", *WHERE, "--yes") == 2  # It would take the model from the job.
    assert re.match(r"error: transform job digits-\w{10}-1: runs with digits-1-\w{10}; wait", capsys.readouterr().err)
    put_images(world[1], {"large.jpg": bytes(33_000_000)})
    assert refused(*TRANSFORM).startswith("s3://bucket/photos/large.jpg: is 33.0 MB, and the server takes 32 MB")
    services.calls.clear()
    assert run(*words, *TRANSFORM, "--dry-run") == 0
    assert "sagemaker create_transform_job\n" in capsys.readouterr().out
    assert not services.calls


def test_a_check_looks_at_all_that_amazon_tells(
    world: tuple[StandIn, Aws], services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = world[1]
    assert deploy(versions, 1, "--check") == 1
    told = capsys.readouterr().out
    levels = dict(re.findall(r"^(\w+) +(\w+):", told, re.MULTILINE)[::-1])
    assert set(levels) == {"ok", "error", "warning"}
    assert "error    role: iam get_role runs: not found" in told
    assert "error    image: ecr describe_images classifier: not found" in told
    assert "warning  quota: ml.m5.large for endpoint usage: is not listed" in told
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}}]}
    client.call("iam", "create_role", RoleName="runs", AssumeRolePolicyDocument=json.dumps(trust))
    client.call("ecr", "create_repository", repositoryName="classifier")
    manifest = json.dumps({"schemaVersion": 2, "config": {}, "layers": []})
    kind = "application/vnd.oci.image.manifest.v1+json"
    image = {"repositoryName": "classifier", "imageTag": "v1-serving", "imageManifestMediaType": kind}
    client.call("ecr", "put_image", imageManifest=manifest, **image)
    services.quotas = {"ml.m5.large for endpoint usage": 1.0, "ml.m5.large for transform job usage": 0.0}
    assert deploy(versions, 1, "--check") == 0
    told = capsys.readouterr().out
    assert told.count("\nok ") == 7
    assert "ok       requests: up to 6.3 MB and 60 s each; 600 s for a container to start\n" in told
    assert "ok       quota: ml.m5.large for endpoint usage is 1, of which 1 are needed\n" in told
    assert f"warning  image: {BASE['image']} is {kind}, which SageMaker has refused; docs/aws.md builds it" in told
    assert not any(services.kept().values())  # It only reads.
    assert deploy(versions, 1) == 0
    assert deploy(versions, 2, "--check") == 0
    assert (
        "warning  quota: ml.m5.large for endpoint usage is 1: during the change 1 old and 1" in capsys.readouterr().out
    )
    words = ["transform", *ALL, "--model", versions / "1", *TRANSFORM, "--check"]
    assert run(*words) == 1
    assert "error    quota: ml.m5.large for transform job usage is 0, but 1 are asked for" in capsys.readouterr().out
    other = ["--role", "arn:aws:iam::210987654321:role/runs"]
    assert deploy(versions, 1, "--check", *other) == 1
    told = capsys.readouterr().out
    assert f"error    credentials: are of account {ACCOUNT}, but the role is of 210987654321" in told
    assert told.count("skipped  ") == 5


def test_flags_that_contradict_or_say_nothing_are_one_line(
    services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        (["deploy", "--check", "--dry-run"], "--dry-run: not allowed with argument --check"),
        (["transform", "--no-wait", "--check"], "--check: not allowed with argument --no-wait"),
        (["rollback", "--output-dir", "out"], "--output-dir out: says nothing without --model FOLDER; give it, too"),
    ):
        with contextlib.suppress(SystemExit):
            assert run(words[0], *(WHERE if words[0] == "rollback" else ALL), *words[1:]) == 2
        assert message in capsys.readouterr().err
    assert not services.calls


def test_how_long_is_waited_holds_for_each_command(
    services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(versions, 1) == 0
    services.looks = 10**9
    more = ["--aws-set", "wait_minutes=1e-9"]
    assert deploy(versions, 2, *more) == 1
    for act in ("rollback", "delete"):
        capsys.readouterr()
        assert run(act, *WHERE, *more) == 1
        assert "endpoint digits: still Updating after 1e-09 minutes; it goes on" in capsys.readouterr().err


def test_settings_come_from_a_file_and_flags_win(
    services: StandIn, versions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "aws.yaml"
    file.write_text(yaml.safe_dump({**BASE, "instance_type": "ml.c5.large", "tags": {"team": "vision"}}))
    words = ["deploy", "--aws-config", file, "--model", versions / "1", "--tags", "cost=7"]
    assert run(*words, "--endpoint", "other", "--aws-set", "instance_count=2") == 0
    (variant,) = variants(services, "other")
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.c5.large", 2)
    (model,) = services.backend._models.values()
    assert model.tags == [{"Key": "cost", "Value": "7"}, {"Key": "team", "Value": "vision"}]
    capsys.readouterr()
    file.write_text("region: eu-central-1\nendpont: digits\n")
    assert run("status", "--aws-config", file) == 2
    assert capsys.readouterr().err == (
        "error: endpoint must be known; give --endpoint, or put them into the --aws-config file\n"
    )
    assert run(*words, *ALL) == 2
    assert capsys.readouterr().err.startswith("error: unknown setting endpont; did you mean endpoint? ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--region", "frankfurt"], "region is 'frankfurt'; use a region, such as eu-central-1"),
        (["--endpoint", "my_digits"], "endpoint is 'my_digits'; use letters, digits, and hyphens within"),
        (["--endpoint", "d" * 41], "string should have at most 40 characters"),
        (["--role", "runs"], "role is 'runs'; use arn:aws:iam::ACCOUNT:role/NAME"),
        (["--image", "classifier:v1"], "image is 'classifier:v1'; use ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG"),
        (["--region", "us-east-1"], "image lies in eu-central-1, but region is us-east-1, and SageMaker takes"),
        (["--artifacts", "gs://bucket/models"], "artifacts is 'gs://bucket/models'; use s3://BUCKET/FOLDER"),
        (["--instance-type", "m5.large"], "instance_type is 'm5.large'; use an instance type, such as ml.m5.large"),
        (["--instance-count", "101"], "instance_count is '101'; input should be less than or equal to 100"),
        (["--traffic-percent", "0"], "traffic_percent is '0'; input should be greater than or equal to 1"),
        (["--serverless-memory-mb", "1500"], "memory_mb is 1500; use 1024, 2048, 3072, 4096, 5120 or 6144"),
        (["--serverless-memory-mb", "8192"], "input should be less than or equal to 6144"),
        (["--serverless-concurrency", "201"], "input should be less than or equal to 200"),
        (["--server-options", "$(reboot)"], "server_options is '$(reboot)'; give options of pipeline.serve"),
        (["--tags", "a=b!"], "tags has 'a': 'b!'; use letters, digits, spaces and _.:/=+-@"),
        (["--tags", "aws:a=b"], "tags has 'aws:a', which is not yours to set; choose another key"),
        (["--tags", "team"], "--tags team: expected KEY=VALUE, e.g. --tags team=vision"),
        (["--aws-set", "startup_seconds=30"], "startup_seconds is 30; input should be greater than or equal to 60"),
        (["--model", "gs://bucket/1"], "is not on this machine; copy the version here, and give its folder"),
        (["--model", "nowhere"], "--model nowhere: holds neither a saved_model.pb nor numbered versions of a model"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_sent(
    services: StandIn,
    versions: Path,
    changes: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.model_versions.is_model", lambda path: path != "nowhere")
    assert deploy(versions, 1, *changes) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert not services.calls


def test_without_boto3_or_credentials_one_line_says_what_to_do(
    world: tuple[StandIn, Aws], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "boto3", None)
        assert run("status", *WHERE) == 2
        assert capsys.readouterr().err == (
            "error: boto3 is not installed, which pipeline.aws sends its calls with; pip install 'boto3>=1.35,<2'\n"
        )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    assert run("status", *WHERE) == 2
    assert capsys.readouterr().err == (
        "error: sagemaker describe_endpoint digits: no valid credentials for AWS (Unable to locate credentials); log in"
        " (aws sso login, aws configure), or set AWS_PROFILE\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert run("status", *WHERE) == 2
    assert capsys.readouterr().err.startswith("error: AWS_PROFILE: no valid credentials for AWS (The config profile")


def test_a_service_that_is_away_is_a_fault(
    world: tuple[StandIn, Aws], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert run("status", *WHERE) == 1
    assert "error: sagemaker describe_endpoint digits: the service could not be reached:" in capsys.readouterr().err


def test_an_archive_holds_the_version_in_a_folder_of_its_number_and_always_the_same_bytes(
    versions: Path, tmp_path: Path
) -> None:
    model = read_model(str(versions / "3"))
    for name in ("a", "b"):
        write_archive(model, tmp_path / name)
    packed = (tmp_path / "a").read_bytes()
    assert packed == (tmp_path / "b").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as archive:
        assert archive.getnames() == ["3/variables/variables.index", "3/saved_model.pb"]
    other, copy = read_model(str(versions / "2")), read_model(str(versions / "4"))
    assert (model.version, copy.version, model.digest == copy.digest, model.digest == other.digest) == (
        3,
        4,
        True,
        False,
    )
    assert same_model(f"s3://bucket/{model.key}", f"s3://bucket/{copy.key}")
    assert not same_model(f"s3://bucket/{model.key}", f"s3://bucket/{other.key}")
    with pytest.raises(UserError, match="is called digits; give a pushed version, whose name is its number"):
        read_model(str(versions))


def test_a_list_of_several_pages_is_read_to_its_end() -> None:
    class Pages:
        def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
            number = int(arguments.get("NextToken") or arguments.get("ContinuationToken") or 0)
            more = {"NextContinuationToken" if service == "s3" else "NextToken": str(number + 1)} if number < 2 else {}
            return {"number": number, **more}

    for service in ("sagemaker", "s3"):
        assert [page["number"] for page in pages(Pages(), service, "list")] == [0, 1, 2]


def test_the_limits_are_those_of_the_api() -> None:
    session = botocore.session.get_session()
    models = [session.get_service_model(name) for name in ("sagemaker", "sagemaker-runtime")]
    checked = 0
    for limit in vars(limits).values():
        if not isinstance(limit, limits.Limit) or not re.fullmatch(r"API \w+", limit.source):
            continue
        name = limit.source.removeprefix("API ")
        model = next(model for model in models if name in model.shape_names)
        found = model.shape_for(name).metadata
        assert limit.most == found["max"], name
        assert limit.least in (found.get("min", limit.least), 1), name  # An empty name is no name.
        checked += 1
    assert checked >= 12  # All of them.
    described = models[0].shape_for("CreateTransformJobRequest").members["MaxPayloadInMB"].documentation
    assert f"cannot be greater than {limits.TRANSFORM_PAYLOAD_MB.most} MB" in described


def test_the_policies_of_the_page_allow_each_call_that_is_made_and_name_no_other(
    world: tuple[StandIn, Aws], services: StandIn, versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "aws.md").read_text(encoding="utf-8")
    deployer, _, trust = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL))
    allowed = {
        action
        for statement in deployer["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    services.start, services.root = (
        lambda folder, environment: lambda body, kind: (200, b"{}"),
        versions.parent / "policy",
    )
    put_images(world[1], {"a.jpg": b"one"})
    services.calls.clear()
    services.failing.add("-3-")
    for version, more in (
        (1, ()),
        (2, ("--traffic-percent", 10)),
        (2, ("--traffic-percent", 20)),
        (3, ()),
        (3, ("--check",)),
    ):
        deploy(versions, version, *more)
    run("rollback", *WHERE, "--yes")
    deploy(versions, 2)
    run("transform", *ALL, "--model", versions / "1", *TRANSFORM)
    run("delete", *WHERE, "--yes")
    capsys.readouterr()
    # Passing the role and giving an upload up are no calls of their own.
    assert allowed - {"iam:PassRole", "s3:AbortMultipartUpload"} == set(services.calls)
    assert trust["Statement"][0]["Principal"] == {"Service": "sagemaker.amazonaws.com"}


def test_the_commands_and_the_file_of_the_page_are_taken() -> None:
    text = (ROOT / "docs" / "aws.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"which win:\n\n((?:    .*\n)+)", text)
    from pipeline.config import parse_settings
    from pipeline.sagemaker.settings import REQUIRED, AwsSettings

    tree = yaml.safe_load(block)
    assert parse_settings(AwsSettings, tree).server_options == "--batch 4"
    assert set(REQUIRED) <= set(tree)
    lines = re.findall(r"^    python -m pipeline\.aws (.*)$", text, re.MULTILINE)
    acts = [aws.make_parser().parse_args(shlex.split(line, comments=True)).act for line in lines]
    assert set(acts) == {"deploy", "status", "rollback", "transform", "delete"}
