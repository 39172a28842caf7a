"""The gcloud commands of the pages, read by gcloud's own parser where it is installed; none of them is run."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
GCLOUD = shutil.which("gcloud")
NAMES = re.search(r"^    P=.*?\n\n", (DOCS / "vertex_ai.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
# In place of all programs: bash itself fills in variables, functions and loops, and what gcloud gets is written down.
RECORD = '#!/bin/bash\nprintf " %q" gcloud "$@" >> commands; echo >> commands; echo an-answer\n'

pytestmark = pytest.mark.skipif(GCLOUD is None, reason="needs gcloud")


def make_script(page: str) -> str:
    """Returns the code of a page, and what its sentences say of gcloud with a flag."""
    assert NAMES is not None
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^    .*\n|^\n)+", text, re.MULTILINE)
    spoken = [" ".join(code.split()) for code in re.findall(r"`(gcloud [^`]* -[^`]*)`", text)]
    return "\n".join([NAMES[0], *blocks, *spoken])


def find_commands(page: str, folder: Path) -> list[str]:
    """Returns the commands that gcloud would get, one a line, quoted for a shell."""
    programs = folder / "bin"
    programs.mkdir()
    script = re.sub(r"^    ", "", make_script(page), flags=re.MULTILINE)
    for name in {"gcloud", *re.findall(r"^ *(?:\. )?([a-z]+)\b", script, re.MULTILINE)} - {"cat", "echo"}:
        (programs / name).write_text(RECORD if name == "gcloud" else "#!/bin/bash\n")
        (programs / name).chmod(0o755)
    (programs / "cat").symlink_to("/bin/cat")
    done = subprocess.run(
        ["/bin/bash", "-u", "-c", script], cwd=folder, env={"PATH": str(programs)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return list(dict.fromkeys((folder / "commands").read_text(encoding="utf-8").splitlines()))


def read_by_gcloud(commands: list[str], folder: Path) -> list[str]:
    """Returns what gcloud's parser finds wrong."""
    (folder / "commands.json").write_text(json.dumps([{"command_string": line.strip()} for line in commands]))
    assert GCLOUD is not None
    done = subprocess.run(
        [GCLOUD, "meta", "lint-gcloud-commands", "--commands-file", str(folder / "commands.json")],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "CLOUDSDK_CONFIG": str(folder / "config")},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = json.loads(done.stdout)
    assert len(found) == len(commands)
    return [f"{item['command_string']}: {item['error_message']}" for item in found if not item["success"]]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "at_least"), [("vertex_ai.md", 25), ("operate.md", 15)])
def test_gcloud_reads_each_command(page: str, at_least: int, tmp_path: Path) -> None:
    commands = find_commands(page, tmp_path)
    assert len(commands) >= at_least
    assert not read_by_gcloud(commands, tmp_path)


def test_a_command_that_gcloud_does_not_read_is_seen(tmp_path: Path) -> None:
    (wrong,) = read_by_gcloud(["gcloud ai endpoints list", "gcloud ai endpoints list --regio=here"], tmp_path)
    assert wrong.startswith("gcloud ai endpoints list --regio=here: unrecognized arguments")
