"""Draws the pictures of `design.md` from the code: `python -m docs.draw_design`.

Both pictures are rows and lines: a line belongs to one row, where it has a dot, and has a ring at each row that uses
what it stands for.
"""

import ast
import itertools
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from xml.sax.saxutils import escape

from tfx.dsl.compiler.compiler import Compiler
from tfx.proto.orchestration.pipeline_pb2 import PipelineNode

from components.pusher.component import AtomicPusher
from components.trainer.weights import ResolvedWeights
from pipeline.config import load_config
from pipeline.create_pipeline import Deployment, create_pipeline

DOCS_DIR = Path(__file__).parent
FLOORS = ("pipeline", "components", "data")
OPTIONAL_NODES = (
    "trainer.recipe=manual",
    "tuner.enabled=true",
    "trainer.warm_start=blessed",
    "trainer.weights=imagenet",
    "trainer.weights_mirror=gs://bucket/weights",
    "export.formats=[litert]",
)
COLOURS = ("#4269d0", "#d98c00", "#e0503c", "#2a9d8f", "#3ca951", "#a463f2")
ROW, LINE, BOX, EDGE = 30, 22, 235, 12  # pixels: from row to row, from line to line, width of a box, margin


@dataclass(frozen=True)
class Line:
    """A line through rows.

    Attributes:
        row: the one that it belongs to.
        users: the others on it.
        title: is written beside its dot.
    """

    row: str
    users: tuple[str, ...]
    title: str = ""


def draw_design() -> dict[str, str]:
    """Returns the pictures, as SVG by the name of the file."""
    nodes, always = _compile(OPTIONAL_NODES), _compile(())
    imports = _read_imports()
    # Who imports comes before what it imports: a circle, which no order has, is an error.
    folders = list(TopologicalSorter({name: _importers(name, imports) for name in sorted(imports)}).static_order())
    lines = [Line(name, users) for name in reversed(folders) if (users := _importers(name, imports))]
    return {
        "graph.svg": _draw("The graph", list(nodes), list(_read_lines(nodes)), set(nodes) - set(always)),
        "folders.svg": _draw("The folders", folders, lines),
    }


def _compile(overrides: Sequence[str]) -> dict[str, PipelineNode]:
    """Returns the nodes by their names, in the order in which they run."""
    # Weights that are not on this machine, as on Vertex AI, where alone a node brings them from a mirror.
    pipeline = create_pipeline(
        load_config("digits", overrides=overrides),
        Deployment("root", partial(AtomicPusher, base_directory="served"), (), "metadata.sqlite"),
        "fingerprint",
        ResolvedWeights("imagenet"),
    )
    return {node.pipeline_node.node_info.id: node.pipeline_node for node in Compiler().compile(pipeline).nodes}


def _read_lines(nodes: Mapping[str, PipelineNode]) -> Iterator[Line]:
    """Yields the artifacts of the nodes in their order, and last of each node whom it precedes without one."""
    read = {
        name: {
            (channel.producer_node_query.id, channel.output_key)
            for given in node.inputs.inputs.values()
            for channel in given.channels
        }
        for name, node in nodes.items()
    }
    for writer, node in nodes.items():
        # TFX's compiler lists no outputs of a resolver: what others read of it tells.
        keys = {key for reads in read.values() for producer, key in reads if producer == writer}
        for key in sorted(keys | set(node.outputs.outputs)):
            yield Line(writer, tuple(name for name in nodes if (writer, key) in read[name]), key)
        waiting = [name for name, other in nodes.items() if writer in other.upstream_nodes]
        if unnamed := tuple(name for name in waiting if writer not in {producer for producer, _ in read[name]}):
            yield Line(writer, unnamed, "(runs first)")


def _read_imports() -> dict[str, set[str]]:
    """Returns what each folder of the code imports of the others; of `components`, each node has its own."""
    found: dict[str, set[str]] = {}
    for path in (path for floor in FLOORS for path in (DOCS_DIR.parent / floor).rglob("*.py")):
        folder = _folder(path.relative_to(DOCS_DIR.parent).parent.parts)
        imports = found.setdefault(folder, set())
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imports.update(_folder(name.split(".")) for name in names if name.split(".")[0] in FLOORS)
        imports.discard(folder)
    return found


def _folder(parts: Sequence[str]) -> str:
    """Returns the folder that is drawn for a module or a folder, given by the parts of its name."""
    if parts[0] != "components":
        return parts[0]
    is_node = len(parts) > 1 and (DOCS_DIR.parent / parts[0] / parts[1]).is_dir()
    return f"components/{parts[1] if is_node else '*.py'}"


def _importers(name: str, imports: Mapping[str, set[str]]) -> tuple[str, ...]:
    return tuple(sorted(folder for folder in imports if name in imports[folder]))


def _draw(title: str, rows: Sequence[str], lines: Sequence[Line], dashed: Set[str] = frozenset()) -> str:
    """Draws rows from top to bottom and lines from left to right, in the given orders.

    Args:
        title: of the picture, for who cannot see it.
        rows: their names.
        lines: where those of one row are neighbours, whose titles stand beside the last dot.
        dashed: rows whose box is dashed.
    """
    y = {name: EDGE + ROW * i + ROW // 2 for i, name in enumerate(rows)}
    x = {line: EDGE + BOX + LINE * (i + 1) for i, line in enumerate(lines)}
    colour = dict(zip(dict.fromkeys(line.row for line in lines), itertools.cycle(COLOURS)))
    below, above, width = [], [], 0
    for name in rows:
        own = [line for line in lines if line.row == name]
        met = [x[line] for line in lines if name in (line.row, *line.users)]
        words, at = ", ".join(line.title for line in own), max([x[line] for line in own], default=0) + 10
        dash = ' stroke-dasharray="5 3"' if name in dashed else ""
        below.append(f'<path d="M{EDGE + BOX} {y[name]}H{max(met, default=EDGE + BOX)}" stroke="#bbb"/>')
        box = f'x="{EDGE}" y="{y[name] - 11}" width="{BOX}" height="22" rx="4"'
        above.append(f'<rect {box} fill="#f2f4f8" stroke="#667"{dash}/>')
        above.append(f'<text x="{EDGE + 9}" y="{y[name] + 4}">{escape(name)}</text>')
        if words:
            above.append(f'<text x="{at}" y="{y[name] + 4}" fill="{colour[name]}">{escape(words)}</text>')
        width = max([width, at + 7 * len(words), *met])
    for line in lines:
        ends = [y[name] for name in (line.row, *line.users)]
        stroke = f'stroke="{colour[line.row]}" stroke-width="2"'
        below.append(f'<path d="M{x[line]} {min(ends)}V{max(ends)}" {stroke}/>')
        above.append(f'<circle cx="{x[line]}" cy="{y[line.row]}" r="5" fill="{colour[line.row]}"/>')
        above += [f'<circle cx="{x[line]}" cy="{y[name]}" r="4" fill="#fff" {stroke}/>' for name in line.users]
    size = f'width="{width + EDGE}" height="{2 * EDGE + ROW * len(rows)}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13" role="img">',
            f"<title>{escape(title)}</title>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            *below,
            *above,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    for file_name, svg in draw_design().items():
        (DOCS_DIR / file_name).write_text(svg, encoding="utf-8")
