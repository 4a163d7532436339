"""A comparison as a file: one plan, run under several configurations, each several times."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import UsageError
from harness.experiment.plan import (
    MachinePlan,
    Plan,
    find_definition,
    is_comparison,
    known_comparisons,
    parse_definition,
)
from harness.kernel.own import OwnFiles, names_file

_SYSCTL = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+")
_VALUE = re.compile(r"[\w.,+-]+(?: [\w.,+-]+)*")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(_Part):
    """One configuration: what differs from the others of its comparison."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=40)
    about: str = ""
    kernel: str | None = None
    """As ``--kernel`` takes it; None: the host's own suite."""
    modules: Path | None = None
    config: Path | None = None
    """As ``--modules`` and ``--config`` take them, of a kernel given by its path."""
    arch: Literal["x86_64", "arm64", "i386"] = "x86_64"
    append: list[str] = []
    """Kernel parameters beside the machine's."""
    sysctls: dict[str, int | str] = {}
    """``vm.compaction_proactiveness`` → its value, set before the first phase."""
    machine: dict[str, Any] = {}
    """Keys of the comparison's machine that are otherwise here."""

    @model_validator(mode="after")
    def _sound(self) -> Variant:
        for name, value in self.sysctls.items():
            if not _SYSCTL.fullmatch(name):
                raise ValueError(f"sysctl {name!r}: write it as vm.swappiness")
            if not _VALUE.fullmatch(str(value)):
                raise ValueError(f"sysctl {name}: {value!r} is not a value for one")
        if not names_file(self.kernel):
            for key, path in (("modules", self.modules), ("config", self.config)):
                if path is not None:
                    raise ValueError(f"{key} goes with a kernel given by its path")
        return self

    @property
    def files(self) -> OwnFiles:
        """What goes with a kernel given by its path."""
        return OwnFiles(
            modules=self.modules and self.modules.expanduser(),
            config=self.config and self.config.expanduser(),
        )

    def setup(self) -> list[str]:
        """Shell lines that set the sysctls; a kernel without one fails, and says which."""
        return [
            f"echo {value} > /proc/sys/{name.replace('.', '/')} || "
            f'{{ echo "this kernel has no sysctl {name}, or refuses {value}" >&2; exit 1; }}'
            for name, value in self.sysctls.items()
        ]


class Comparison(_Part):
    """What is compared, and what each run does."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    description: str
    question: str
    """What the comparison is to answer, in a sentence."""
    repeat: int = Field(default=5, ge=1, le=100)
    ceiling_s: float = Field(default=900.0, gt=0, le=86_400)
    """Longest time that one run may take."""
    variants: list[Variant] = Field(min_length=1)
    """The first is the one that the others are held against."""
    plan: dict[str, Any]
    """Seed, machine, sampling, setup and phases, as in any experiment."""

    @model_validator(mode="after")
    def _sound(self) -> Comparison:
        names = [variant.name for variant in self.variants]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two variants are called {name!r}")
        for variant in self.variants:
            self.plan_of(variant, 1)
        return self

    def variant(self, name: str) -> Variant:
        """The variant of that name.

        Raises:
            UsageError: there is none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise UsageError(
            f"{self.name}: no variant is called {name!r}",
            fix=f"use one of {', '.join(variant.name for variant in self.variants)}",
        )

    def plan_of(self, variant: Variant, repeat: int) -> Plan:
        """The plan of a variant's Nth run (from 1): each repeat has its seed, the same for all."""
        content = dict(self.plan)
        machine = {**content.get("machine", {}), **variant.machine}
        machine["append"] = [*machine.get("append", []), *variant.append]
        content["machine"] = MachinePlan.model_validate(machine)
        content["setup"] = [*variant.setup(), *content.get("setup", [])]
        content["name"] = re.sub(r"[^a-z0-9-]", "-", f"run-{self.name}-{variant.name}")
        content["description"] = f"{self.description}: {variant.name}"
        content["seed"] = int(content.get("seed", 1)) + repeat - 1
        plan = Plan.model_validate(content)
        plan.check_arch(variant.arch)
        return plan

    def order(self, repeats: int) -> list[tuple[int, str]]:
        """(repeat, variant) in the order of the runs: repeat by repeat, each in an order drawn
        anew, so that what drifts on the host meets all variants alike. The draw depends on the
        comparison and the repeat alone: an interrupted or longer sweep goes on in it."""
        runs = []
        for repeat in range(1, repeats + 1):
            names = [variant.name for variant in self.variants]
            random.Random(f"{self.name}/{repeat}").shuffle(names)  # noqa: S311 - no secret
            runs += [(repeat, name) for name in names]
        return runs


def load_comparison(name_or_path: str) -> Comparison:
    """A comparison by its name, or from a file ending in .toml.

    Raises:
        UsageError: no such comparison, not TOML, or a value out of place (names file and field).
    """
    path = find_definition(name_or_path, known_comparisons(), "comparison")
    content = parse_definition(path)
    if not is_comparison(content):
        raise UsageError(
            f"{path}: not a comparison: it has no variants",
            fix=f"run it with `mmscope run`, or use one of {', '.join(known_comparisons())}",
        )
    own = {key: content.pop(key) for key in Comparison.model_fields if key in content}
    try:
        return Comparison.model_validate({**own, "plan": content})
    except ValidationError as error:
        raise _unsound(path, error) from None
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", fix=error.fix) from None


def _unsound(path: Path, error: ValidationError) -> UsageError:
    lines = [
        f"{'.'.join(str(part) for part in item['loc']) or 'file'}: {item['msg']}"
        for item in error.errors()
    ]
    return UsageError(f"{path}: not a sound comparison", details={"where": "\n".join(lines)})
