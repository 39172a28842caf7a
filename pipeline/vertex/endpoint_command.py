"""What `python -m pipeline.run_vertex endpoint`, `rollback` and `promote` do."""

import argparse
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import UserError
from pipeline.version_changes import ROLLBACK, Change, add_change_flags, change

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import DeployedModel

    from components.google_cloud.endpoints import Endpoints
    from pipeline.vertex.cloud import Cloud

ACTS = ("endpoint", "rollback", "promote")

_COMMANDS_OF = {
    **dict.fromkeys(("to", "reason", "who"), ("rollback",)),
    "yes": ("rollback", "promote"),
    **dict.fromkeys(("compile_only", "check", "wait", "prices", "max_cost"), ("submit",)),
}


def add_act_flags(parser: argparse.ArgumentParser) -> None:
    """Adds what `rollback` and `promote` take."""
    group = parser.add_argument_group("rollback and promote")
    group.add_argument(
        "--to",
        type=int,
        metavar="VERSION",
        help="what is to be served; all that are newer are set aside (default: the newest that is another model)",
    )
    add_change_flags(group, (group,))


def refuse_act_flags(arguments: argparse.Namespace) -> None:
    """Refuses what says nothing to this command.

    Raises:
        UserError: names the flag.
    """
    for name, commands in _COMMANDS_OF.items():
        if arguments.command not in commands and getattr(arguments, name) not in (None, "", False):
            raise UserError(f"--{name.replace('_', '-')} says nothing to {arguments.command}; leave it out")


def act(arguments: argparse.Namespace, cloud: "Cloud", name: str | None) -> list[str]:
    """Looks at the endpoint or changes what it serves, and returns what is told.

    Args:
        arguments: of the command.
        cloud: where.
        name: of the endpoint.

    Raises:
        UserError: it cannot be done.
        CloudFault: the service failed or could not be reached.
    """
    if not name:
        raise UserError(f"{arguments.command} needs an endpoint; give --endpoint NAME, or endpoint.name in the file")
    number = arguments.to
    if arguments.run is not None:
        if arguments.command != "promote" or not arguments.run.isdecimal():
            raise UserError(f"{arguments.command} {arguments.run}: give --endpoint NAME; only promote takes a VERSION")
        number = int(arguments.run)
    from pipeline.display import output_to_log

    with output_to_log(Path(os.devnull), verbose=False):  # TFX greets on standard error
        from components.google_cloud.calls import ROLE
        from components.google_cloud.endpoints import Endpoints
        from pipeline.vertex.endpoint_versions import EndpointVersions
        from pipeline.vertex.metadata_blessings import MetadataBlessings

        endpoints = Endpoints(cloud.project, cloud.region, ROLE, cloud.api_endpoint)
        if arguments.command == "endpoint":
            return list(_describe(endpoints, name))
        versions = EndpointVersions(endpoints, name)
        wanted = Change(
            act=arguments.command,
            number=number,
            yes=arguments.yes,
            reason=arguments.reason,
            who=arguments.who,
            make_hint=lambda to: _hint(arguments, number if to is None else to),
        )
        lines = change(wanted, versions, MetadataBlessings(cloud))
    return [versions.root, *lines]


def _describe(endpoints: "Endpoints", name: str) -> Iterator[str]:
    """Yields what an endpoint is, and a line for each version that it serves or may serve."""
    from components.google_cloud.endpoints import describe_kind, has_traffic
    from pipeline.vertex.endpoint_versions import EndpointVersions, find_endpoint

    endpoint = find_endpoint(endpoints, name)
    yield f"endpoint {name}  {endpoint.name}"
    at = f", at {endpoint.dedicated_endpoint_dns}" if endpoint.dedicated_endpoint_dns else ""
    yield f"  {describe_kind(endpoint)}{at}"
    logging = endpoint.predict_request_response_logging_config
    yield f"  requests are {f'kept in {logging.bigquery_destination.output_uri}' if logging.enabled else 'not kept'}"
    if len({deployed.model.partition("@")[0] for deployed in endpoint.deployed_models}) != 1:
        for one in endpoint.deployed_models:
            yield f"  {one.display_name}  {endpoint.traffic_split.get(one.id, 0)} %  {_machines(one)}"
        yield "" if endpoint.deployed_models else "  no model is deployed"
        return
    versions = EndpointVersions(endpoints, name)
    journal = versions.read_journal()
    yield f"  {'version':<8} {'state':<22} {'traffic':>7}  {'pushed':<16}  {'machines':<28} why"
    for number in sorted(versions.versions, reverse=True):
        version, deployed = versions.versions[number], versions.deployed(number)
        share = endpoint.traffic_split.get(deployed.id, 0) if deployed else 0
        why = journal.aside.get(number)
        state = "rolled back" if why else "served" if deployed and has_traffic(endpoint, deployed.id) else ""
        if number in journal.versions:
            state = f"{journal.act} interrupted"
        pushed = f"{version.version_create_time.astimezone():%Y-%m-%d %H:%M}" if version.version_create_time else ""
        machines = _machines(deployed) if deployed else ""
        line = f"  {number:<8} {state:<22} {f'{share} %' if deployed else '':>7}  {pushed:<16}  {machines:<28} "
        yield (line + (why.describe() if why else "")).rstrip()


def _machines(deployed: "DeployedModel") -> str:
    resources = deployed.dedicated_resources
    least, most = resources.min_replica_count, resources.max_replica_count
    return f"{least if least == most else f'{least} to {most}'} x {resources.machine_spec.machine_type}"


def _hint(arguments: argparse.Namespace, number: int | None) -> str:
    """Returns the command that does what was only told."""
    words = ["python", "-m", "pipeline.run_vertex", arguments.command]
    if number is not None:
        words += ["--to", str(number)] if arguments.command == ROLLBACK else [str(number)]
    given = vars(arguments)
    for key, flag in (
        ("vertex_config", "--vertex-config"),
        ("project", "--project"),
        ("region", "--region"),
        ("endpoint.name", "--endpoint"),
        ("api_endpoint", "--api-endpoint"),
        ("reason", "--reason"),
        ("who", "--who"),
    ):
        if given[key]:
            words += [flag, given[key]]
    if arguments.vertex_set:
        words += ["--vertex-set", *arguments.vertex_set]
    return " ".join(map(shlex.quote, [*words, "--yes"]))
