"""Every command: a mistake in its flags is one line on standard error and exit status 2; its help comes at once."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import apache_beam as beam
import pytest

from data.errors import Fault, UserError
from pipeline import aws, predict, preflight, rehearse, report, run_local, run_vertex, serve, watch
from pipeline.command_line import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USER_ERROR, CommandLineParser, command
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS

COMMANDS = [aws, predict, preflight, rehearse, report, run_local, run_vertex, serve, watch]
WITH_SETTINGS = [preflight, run_local, run_vertex]
NEEDED = {
    aws: ["status"],
    predict: ["a.png"],
    preflight: ["--tpu", "v5e-4"],
    rehearse: ["spec.json"],
    watch: ["scored.csv"],
}
MISTAKES = [
    *((command, [*NEEDED.get(command, []), "--nope"], "unrecognized arguments: --nope") for command in COMMANDS),
    (report, ["--format", "xml"], "argument --format: invalid choice: 'xml' (choose from 'json', 'csv', 'md')"),
    (report, ["--output"], "argument --output: expected one argument"),
    (run_local, ["--preset", "x"], "argument --preset: invalid choice: 'x' (choose from 'cifar10', 'digits', "),
    *((command, [*NEEDED.get(command, []), "--config"], "argument --config: expected") for command in WITH_SETTINGS),
    (run_local, ["--set"], "argument --set: expected at least one argument"),
    (run_local, ["--nope=1\n 2"], "unrecognized arguments: --nope=1 2"),
    (run_vertex, ["begin"], "argument command: invalid choice: 'begin' (choose from 'submit', "),
    (run_vertex, ["--preset", "x"], "argument --preset: invalid choice: 'x' (choose from "),
    (run_vertex, ["--max-cost", "much"], "argument --max-cost: invalid float value: 'much'"),
    (run_vertex, ["--region"], "argument --region: expected one argument"),
    (rehearse, [], "the following arguments are required: SPEC"),
    (rehearse, ["spec.json", "--parallel", "two"], "argument --parallel: 'two' is no whole number of at least 1"),
    (rehearse, ["spec.json", "--parameter", "share=1"], "unrecognized arguments: --parameter share=1"),
    (rehearse, ["spec.json", "--parallel", "0"], "argument --parallel: '0' is no whole number of at least 1"),
    (predict, [], "the following arguments are required: IMAGE"),
    (predict, ["a.png", "--top-k", "two"], "argument --top-k: invalid int value: 'two'"),
    (serve, ["--port", "web"], "argument --port: invalid int value: 'web'"),
    (preflight, [], "the following arguments are required: --tpu"),
    (preflight, ["--tpu", "v5e-4", "--phase", "x"], "argument --phase: invalid choice: 'x' (choose from 'head', "),
]


@pytest.mark.parametrize(("command", "arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_status_2(
    command: ModuleType,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert command.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    # Python from 3.12 on lists the choices without quotes.
    assert printed.err.replace("'", "").startswith(f"error: {message}".replace("'", ""))
    assert printed.err.endswith("; see --help\n")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_help_comes_without_tensorflow(command: ModuleType) -> None:
    code = (
        f"import sys\nfrom {command.__name__} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stopped:\n"
        "    print(stopped.code, {'tensorflow', 'tfx', 'apache_beam'} & set(sys.modules))"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"usage: python -m {command.__name__} ")
    assert done.stdout.endswith("\n0 set()\n")


@pytest.mark.parametrize("command", WITH_SETTINGS)
def test_settings_are_given_alike_and_gathered_over_repeated_flags(command: ModuleType) -> None:
    given = ["--preset", "cifar10", "--config", "my.yaml", "--set", "a.b=1", "c.d=2", "--set", "e.f=3"]
    arguments = command.make_parser().parse_args([*NEEDED.get(command, []), *given])
    assert (arguments.preset, arguments.config, arguments.set) == ("cifar10", "my.yaml", ["a.b=1", "c.d=2", "e.f=3"])


@pytest.mark.parametrize("command", [command for command in COMMANDS if hasattr(command, "make_parser")])
def test_help_tells_every_exit_status(command: ModuleType) -> None:
    *_, statuses = command.make_parser().format_help().partition("exit status: ")
    numbers = {value for name, value in vars(command).items() if name.startswith("EXIT_")}
    told = [int(word) for word in statuses.replace(",", " ").split() if word.isdecimal()]
    assert sorted(told) == sorted(numbers | {EXIT_USER_ERROR, EXIT_INTERRUPTED})


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("raised", "told", "status"),
    [
        (UserError("data.path is x; give y"), "data.path is x; give y", EXIT_USER_ERROR),
        (Fault("the service is down"), "the service is down", EXIT_FAILED),
        (KeyboardInterrupt("run 1 goes on"), "run 1 goes on", EXIT_INTERRUPTED),
        (KeyboardInterrupt(), "interrupted", EXIT_INTERRUPTED),
    ],
)
def test_what_ends_a_command_is_told_in_one_line(
    command: ModuleType,
    raised: BaseException,
    told: str,
    status: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: CommandLineParser, argv: Sequence[str] | None) -> NoReturn:
        raise raised

    monkeypatch.setattr(CommandLineParser, "parse_args", refuse)
    assert command.main([]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {told}")
    assert printed.err.count("\n") == 1


def fill(path: str) -> str:
    with open(path, "wb", buffering=0) as file:
        file.write(b"x")
    return path


@pytest.mark.parametrize("in_beam", [False, True])
def test_a_full_disk_is_told_in_one_line(in_beam: bool, capsys: pytest.CaptureFixture[str]) -> None:
    @command()
    def main(argv: Sequence[str] | None) -> int:
        if in_beam:
            with beam.Pipeline(argv=list(IN_PROCESS_BEAM_ARGS)) as pipeline:
                pipeline | beam.Create(["/dev/full"]) | beam.Map(fill)
        fill("/dev/full")
        return 0

    assert main([]) == EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert error.startswith("error: the disk is full (")
    assert "No space left on device" in error
    assert error.count("\n") == 1


def test_a_home_is_expanded_where_shells_leave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    parser = CommandLineParser()
    parser.add_argument("--output-dir")
    parser.add_argument("--set", nargs="+")
    parser.add_argument("images", nargs="*")
    arguments = parser.parse_args(["~/a.jpg", "--output-dir=~/runs/x", "--set", "data.path=~/images", "a.b=~"])
    assert (arguments.output_dir, arguments.images) == ("/home/me/runs/x", ["/home/me/a.jpg"])
    assert arguments.set == ["data.path=~/images", "a.b=~"]  # Values are YAML, where ~ is null: settings expand theirs.


def test_what_nobody_reads_to_its_end_is_no_fault() -> None:
    code = """
import sys
from pipeline.command_line import command, reader_may_leave

@command()
def main(argv):
    with reader_may_leave():
        for number in range(100_000):
            print(number)
    return 0

sys.exit(main())
"""
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stderr is not None
    assert run.stdout.readline() == "0\n"
    run.stdout.close()
    assert run.stderr.read() == ""
    assert run.wait() == 0
