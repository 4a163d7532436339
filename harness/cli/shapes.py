"""``mmscope shapes``: what machines can be made of, and what some of it makes together."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import Append, Arch, Cpus, Distances, Json, Nodes
from harness.cli.prepare import asked_machine
from harness.machine.argv import Endpoints, kernel_command_line, qemu_argv
from harness.machine.shape import ARCHES, Composition
from harness.machine.shape_catalog import load_shapes
from harness.machine.spec import KernelLimits, MachineSpec, check_spec
from harness.units import format_size

app = typer.Typer(
    help="Named shapes of a machine: nodes, zones, hot-added memory, swap.", no_args_is_help=True
)

_NO_FILE = 0
_ANY_KERNEL = KernelLimits(max_nodes=1024, release="any")


@app.command("list")
def list_shapes(as_json: Json = False) -> None:
    """List the shapes, why each is there, and where it is possible.

    Example: `mmscope shapes list`
    """
    rows = [
        {
            "name": shape.name,
            "why": shape.why,
            "arches": list(shape.arches),
            "elsewhere": shape.elsewhere,
            "needs": list(shape.needs),
        }
        for shape in load_shapes().values()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = [("SHAPE", "ARCHES", "WHY")]
    for row in rows:
        arches = "all" if len(row["arches"]) == len(ARCHES) else " ".join(row["arches"])
        table.append((str(row["name"]), arches, str(row["why"])))
    widths = [max(len(line[column]) for line in table) for column in (0, 1)]
    for name, arches, why in table:
        typer.echo(f"{name:<{widths[0]}}  {arches:<{widths[1]}}  {why}")


@app.command()
def show(
    names: Annotated[list[str], typer.Argument(help="Shapes to put together.")],
    arch: Arch = "x86_64",
    node: Nodes = None,
    distance: Distances = None,
    cpus: Cpus = None,
    append: Append = None,
    as_json: Json = False,
) -> None:
    """Show the machine that shapes make together; boot takes the same as --shape.

    Example: `mmscope shapes show numa2 pmem zram`
    """
    asked = asked_machine(node, distance, cpus, append, arch=arch, shape=names)
    told = _told(asked, _spec(asked, arch))
    if as_json:
        typer.echo(json.dumps(told, indent=1))
        return
    for line in _lines(told):
        typer.echo(line)


def _spec(asked: Composition, arch: str) -> MachineSpec:
    spec = MachineSpec(
        arch=arch,
        nodes=asked.nodes,
        distances=asked.distances,
        kernel=Path("KERNEL"),
        initramfs=Path("INITRAMFS"),
        append=asked.append,
        hot=asked.hot,
        swap_bytes=asked.swap_bytes,
    )
    check_spec(spec, _ANY_KERNEL)
    return spec


def _told(asked: Composition, spec: MachineSpec) -> dict[str, Any]:
    return {
        "shapes": list(asked.shapes),
        "nodes": [
            {"node": node, "size": format_size(part.size_bytes), "cpus": list(part.cpus)}
            for node, part in enumerate(asked.nodes)
        ],
        "distances": {f"{source},{target}": value for source, target, value in asked.distances},
        "qemu": _memory_words(spec),
        "parameters": list(asked.append),
        "command_line": kernel_command_line(spec),
        "modules": list(asked.modules),
        "needs": sorted({symbol for _, symbol in asked.needs}),
        "steps": list(asked.steps()),
    }


def _memory_words(spec: MachineSpec) -> list[str]:
    """QEMU's arguments that say what memory, nodes, CPUs and disks of its own the guest has."""
    endpoints = Endpoints(
        qmp=_NO_FILE,
        console=_NO_FILE,
        control=_NO_FILE,
        stream=_NO_FILE,
        trace=_NO_FILE,
        memory=(_NO_FILE,) * (len(spec.nodes) + len(spec.hot)),
        swap=_NO_FILE if spec.swap_bytes else None,
    )
    argv = qemu_argv(spec, endpoints)
    words: list[str] = []
    for option, value in itertools.pairwise(argv):
        shown = option in {"-machine", "-smp", "-m", "-numa"}
        shown |= option == "-object" or "virtio-mem-pci" in value or "drive=swap" in value
        if option.startswith("-") and shown:
            words.append(f"{option} {value.replace(f'/fd/{_NO_FILE}', '/fd/N')}")
    return words


def _lines(told: dict[str, Any]) -> list[str]:
    lines = [f"shapes      {' '.join(told['shapes'])}"]
    for node in told["nodes"]:
        cpus = ",".join(map(str, node["cpus"])) or "none"
        memory = node["size"] if node["size"] != "0" else "no memory"
        lines.append(f"node {node['node']:<6} {memory}, CPUs {cpus}")
    if told["distances"]:
        pairs = "  ".join(f"{pair}={value}" for pair, value in told["distances"].items())
        lines.append(f"distances   {pairs}")
    for title, key in (("qemu", "qemu"), ("parameters", "parameters"), ("modules", "modules")):
        lines += _listed(title, told[key])
    lines += _listed("needs", told["needs"])
    return lines + _listed("after boot", told["steps"])


def _listed(title: str, values: list[str]) -> list[str]:
    return [f"{title if not at else '':<11} {value}" for at, value in enumerate(values)]
