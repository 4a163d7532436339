"""What apt's complaints mean: which error of ours, and what a person does about it."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import (
    FetchError,
    GoneError,
    MmscopeError,
    NetworkError,
    StaleIndexError,
    VerificationError,
)
from harness.kernel.cache import disk_full

_DISK_FULL = re.compile(r"No space left on device|enough free space|Disk quota exceeded")
_UNVERIFIED = re.compile(
    r"NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|no longer signed"
    r"|signatures (?:couldn't be verified|were invalid)|Clearsigned file isn't valid"
    r"|Weak digest|not valid yet|is expired"
)
_ALTERED = re.compile(r"Hash Sum mismatch|has unexpected size")
_FAILED_FETCH = re.compile(r"^E: Failed to fetch .*", re.MULTILINE)
_INDEX = re.compile(r"/Packages(?:\.\w+)?  ")
_UNREACHABLE = re.compile(
    r"Could not (?:resolve|connect|handshake)|Temporary failure resolving|Unable to connect"
    r"|Connection (?:failed|refused|timed out|reset)|Network is unreachable|No route to host"
    r"|Cannot initiate the connection|Error reading from server"
)
_REFUSED = re.compile(r"\b(?P<status>4(?!04)\d\d|5\d\d)  (?P<reason>[^\[\n]*[^\[\s])")
_GONE = re.compile(r"\b404  Not Found")
_UNSIGNED = re.compile(r"is not signed")
_NO_SUITE = re.compile(r"does not have a Release file|no longer has a Release file")
_NO_PACKAGE = re.compile(
    r"Unable to locate package (?P<a>\S+)|Package '?(?P<b>[^\s']+)'? has no installation candidate"
    r"|Version '(?P<version>[^']+)' for '(?P<c>[^']+)' was not found"
    r"|Couldn't find any package by \w+ '(?P<d>[^']+)'"
)
_COMPLAINT = re.compile(r"^(?:E|W|Err:\d+)[: ]")


def classify(what: str, output: str, *, suite: str, cache: Path) -> MmscopeError:
    """The error for an apt run that failed; ``what`` says what it was to do.

    A full disk comes first, for it makes truncated files that look unverified; a failed
    verification comes before an unreachable mirror, for it must never pass as a mere outage.
    """
    details = {"apt": _complaints(output)}
    if _DISK_FULL.search(output):
        return disk_full(cache)
    refused = _REFUSED.search(output)
    # apt also says "is not signed" of a Release file that it could not fetch at all.
    unverified = _UNVERIFIED.search(output) is not None
    if not unverified and _only_indexes_altered(output):
        return StaleIndexError(
            f"{what}: an index is not the one that was signed",
            details=details,
            fix="the mirror is between two states: try again later, or another (MMSCOPE_MIRROR)",
        )
    if (
        unverified
        or _ALTERED.search(output)
        or (_UNSIGNED.search(output) and not refused and not _UNREACHABLE.search(output))
    ):
        return VerificationError(
            f"{what}: the signature or digest is wrong",
            details=details,
            fix=(
                "update debian-archive-keyring; if that does not help, the mirror or something "
                "before it alters or truncates files: try another mirror (MMSCOPE_MIRROR)"
            ),
        )
    if _UNREACHABLE.search(output):
        return NetworkError(
            f"{what}: no mirror answered",
            details=details,
            fix="check the network and apt's proxy, or name another mirror in MMSCOPE_MIRROR",
        )
    if refused is not None:
        return NetworkError(
            f"{what}: the mirror refused: HTTP {refused['status']} {refused['reason']}",
            details=details,
            fix="check apt's proxy and credentials, or name another mirror in MMSCOPE_MIRROR",
        )
    if _NO_SUITE.search(output):
        return FetchError(
            f"{what}: the mirror has no suite {suite}",
            details=details,
            fix="choose a suite that the mirror carries, or name another in MMSCOPE_MIRROR",
        )
    if _GONE.search(output):
        return GoneError(
            f"{what}: the mirror no longer has a file that its index names",
            details=details,
            fix="name another mirror in MMSCOPE_MIRROR, or another version",
        )
    missing = _NO_PACKAGE.search(output)
    if missing is not None:
        package = next(missing[name] for name in "abcd" if missing[name])
        version = f" {missing['version']}" if missing["version"] else ""
        return FetchError(f"{what}: {suite} has no package {package}{version}", details=details)
    return FetchError(f"{what}: apt failed", details=details)


def _only_indexes_altered(output: str) -> bool:
    """Whether all that failed are lists of packages that do not fit their signed digest."""
    failed = _FAILED_FETCH.findall(output)
    return bool(failed) and all(_ALTERED.search(line) and _INDEX.search(line) for line in failed)


def _complaints(output: str) -> str:
    """apt's warnings and errors without its progress; everything if there are none."""
    lines = output.splitlines()
    kept = [
        line
        for number, line in enumerate(lines)
        if _COMPLAINT.match(line)
        or (line.startswith("  ") and number and lines[number - 1].startswith("Err:"))
    ]
    return "\n".join(kept or lines).strip() or "no output"
