"""A guest for one verb: its run directory is kept when it fails, or when that is asked for."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
from harness.cli.prepare import Prepared
from harness.errors import MmscopeError
from harness.experiment.outcome import outcome_of
from harness.experiment.provenance import image_record, kernel_record, machine_record
from harness.experiment.shaping import apply_shape
from harness.machine.shape import Composition
from harness.machine.spec import MachineSpec
from harness.record.manifest import Manifest, Outcome, OutcomeKind, this_process
from harness.record.rundir import RunDirectory
from harness.session.guest import Guest


@contextlib.contextmanager
def guest_run(
    verb: str,
    spec: MachineSpec,
    prepared: Prepared,
    runs: Path,
    *,
    shape: Composition | None = None,
    progress: Callable[[str], None],
    ssh: bool = False,
    keep: bool = False,
) -> Iterator[Guest]:
    """A booted guest, its shape applied; what it printed lies below ``runs`` if anything fails.

    Raises:
        MmscopeError: as the body does, with the run directory among its details.
    """
    made_parent = not runs.exists()
    directory = RunDirectory.create(runs, f"{verb}-{spec.arch}")
    manifest = Manifest(
        name=verb,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        mmscope=harness.__version__,
        argv=list(sys.argv),
        process=this_process(),
        outcome=Outcome(kind=OutcomeKind.RUNNING),
        kernel=kernel_record(prepared.kernel),
        image=image_record(prepared.image),
    )
    directory.write_manifest(manifest)
    try:
        with Guest(spec, directory, ssh=ssh, progress=progress) as guest:
            if shape is not None:
                apply_shape(guest, shape, progress)
            manifest.machine = machine_record(guest.spec, guest.machine.argv, guest.shaped)
            manifest.timings_s["boot"] = round(guest.boot_s, 3)
            directory.write_manifest(manifest)
            yield guest
    except BaseException as error:
        manifest.outcome = outcome_of(error)
        with contextlib.suppress(MmscopeError, OSError):
            directory.write_manifest(manifest)
        if isinstance(error, MmscopeError):
            error.details.setdefault("run directory", str(directory.path))
        elif not keep:
            shutil.rmtree(directory.path, ignore_errors=True)
        raise
    if keep:
        manifest.outcome = Outcome(kind=OutcomeKind.COMPLETED)
        manifest.files = directory.digest_files()
        directory.write_manifest(manifest)
        return
    shutil.rmtree(directory.path, ignore_errors=True)
    if made_parent:
        with contextlib.suppress(OSError):
            directory.path.parent.rmdir()
