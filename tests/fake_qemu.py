#!/usr/bin/env python3
"""A QEMU that speaks its protocols, well or badly, and boots nothing.

Installed in place of the real one through MMSCOPE_QEMU_X86_64; what it does is chosen by
MMSCOPE_FAKE_QEMU:

    good            boots, answers, quits
    silent          QMP works, the guest prints nothing
    garbage-qmp     greets with noise
    hang-qmp        never greets
    refuse          complains on stderr and exits 1, as QEMU does for arguments it dislikes
    panic           the guest panics while it boots
    init-failed     the guest's set-up fails
    no-agent        prints ready, but the agent never speaks
    stubborn        ignores quit and SIGTERM
    die-in-run      killed in the middle of the first workload
    panic-in-run    panics in the middle of the first workload
    oom-in-run      the OOM killer takes the first workload
    hang-in-run     the first workload never ends and nothing moves
    lockup-in-run   the same, and the kernel complains of it again and again
    corrupt-stream  flips a byte in the sample stream
    cut-stream      ends the sample stream inside a frame
    garbage-agent   the agent's port carries noise
    refuse-shell    shell lines of the experiment's set-up fail
    no-migration    the machine can be neither saved nor restored
    deaf-in-run     the first workload never ends, and the monitor answers no more
    stopped         its CPUs are said to stand still, and it does not power off

A machine restored from a saved state (-incoming) prints nothing and its agent says no hello.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import select
import signal
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator

MODE = os.environ.get("MMSCOPE_FAKE_QEMU", "good")
HEADER = struct.Struct("<4sHHIIQQI")
SOURCE, SAMPLE, MARK, END, ROUND_END = 2, 3, 4, 6, 7
HELLO, REQUEST, STDOUT, STDERR, EXIT, FILE = 1, 16, 17, 18, 19, 20
ROW = "".join(f"{count:7d}" for count in range(1, 12))
REGISTERS = (
    "\r\nCPU#0\r\nRAX=0 RBX=0\r\nRIP=ffffffff81e01234 RFL=00000246 [---Z-P-] CPL=0 II=0 HLT=1\r\n"
    "\r\nCPU#1\r\nRAX=0 RBX=0\r\nRIP=ffffffff8126d20f RFL=00000282 [--S----] CPL=0 II=0 HLT=0\r\n"
)
BUDDYINFO = f"Node 0, zone    DMA32{ROW} \n".encode()


def frame(kind: int, payload: bytes, *, source: int = 0, seq: int = 0) -> bytes:
    now = time.monotonic_ns()
    head = HEADER.pack(
        b"MMS1", kind, source, seq, len(payload), now, now + 1000, zlib.crc32(payload)
    )
    return head + struct.pack("<I", zlib.crc32(head)) + payload


class Fake:
    def __init__(self, argv: list[str]) -> None:
        fds = dict(re.findall(r"socket,id=(\w+),fd=(\d+)", " ".join(argv)))
        self.restored = "-incoming" in argv
        self.sockets = {name: socket.socket(fileno=int(fd)) for name, fd in fds.items()}
        self.round = 0
        self.execs = 0

    def qmp(self) -> None:
        channel = self.sockets["qmp"]
        if MODE == "hang-qmp":
            time.sleep(600)
        if MODE == "garbage-qmp":
            channel.sendall(b"\x00\xffthis is not JSON\n")
            time.sleep(600)
        version = {"qemu": {"major": 0, "minor": 0, "micro": 0}, "package": "fake"}
        self.say({"QMP": {"version": version, "capabilities": []}})
        for message in self.heard():
            answer: dict[str, object] = {"return": {}}
            if "id" in message:
                answer["id"] = message["id"]
            command = message.get("execute")
            if MODE == "deaf-in-run" and self.execs:
                continue
            if command == "query-status":
                answer["return"] = {"running": MODE != "stopped"}
            if command == "human-monitor-command":
                asked = message.get("arguments") == {"command-line": "info registers -a"}
                answer["return"] = REGISTERS if asked else "not here"
            if command == "query-migrate":
                failed = {"status": "failed", "error-desc": "no room on the ark"}
                answer["return"] = failed if MODE == "no-migration" else {"status": "completed"}
            self.say(answer)
            if command == "quit" and MODE != "stubborn":
                os._exit(0)

    def heard(self) -> Iterator[dict[str, object]]:
        """QMP messages; like QEMU, without need for line ends between them."""
        decoder = json.JSONDecoder()
        text = ""
        while data := self.sockets["qmp"].recv(65536):
            text += data.decode()
            while text := text.lstrip():
                try:
                    message, end = decoder.raw_decode(text)
                except ValueError:
                    break
                text = text[end:]
                yield message

    def say(self, message: dict[str, object]) -> None:
        self.sockets["qmp"].sendall(json.dumps(message).encode() + b"\r\n")

    def print_console(self, text: str) -> None:
        self.sockets["console"].sendall(text.replace("\n", "\r\n").encode())

    def boot(self) -> None:
        if MODE == "silent" or self.restored:
            return
        self.print_console("[    0.000000] Linux version 0.0.0-fake\n")
        if MODE == "panic":
            self.print_console(
                "[    0.5] Kernel panic - not syncing: VFS: Unable to mount root fs\n"
            )
            time.sleep(0.2)
            os._exit(0)
        if MODE == "init-failed":
            self.print_console("mmscope: failed: no disk with serial mmscope-root\n")
            return
        self.print_console("mmscope: ready\n")
        if MODE == "garbage-agent":
            self.sockets["control"].sendall(b"\x01\x02\x03 noise " * 20)
        elif MODE != "no-agent":
            hello = b"agent=fake\npage_size=4096\nclock_tick=100\ncpus=2\n"
            self.sockets["control"].sendall(frame(HELLO, hello))

    def serve(self) -> None:
        channel = self.sockets["control"]
        buffer = b""
        while True:
            data = channel.recv(65536)
            if not data:
                return
            buffer += data
            while len(buffer) >= 40:
                length = struct.unpack_from("<I", buffer, 12)[0]
                if len(buffer) < 40 + length:
                    break
                seq = struct.unpack_from("<I", buffer, 8)[0]
                words = buffer[40 : 40 + length].decode().split("\0")
                buffer = buffer[40 + length :]
                self.answer(seq, words)

    def answer(self, seq: int, words: list[str]) -> None:
        reply = self.sockets["control"].sendall
        verb = words[0]
        if verb == "poweroff" and MODE != "stopped":
            if MODE != "stubborn":
                os._exit(0)
            return
        if verb == "exec" and not self.run(words[1:], seq):
            return
        if verb == "read" and "/proc/version" in words[1:]:
            reply(frame(FILE, b"/proc/version\0Linux version 0.0.0-fake\n", seq=seq))
        elif verb == "mark":
            self.sample(words[1].encode())
        elif verb == "sample-start":
            names = ["buddyinfo", "buddyinfo.after"]
            for number, name in enumerate(names, start=1):
                self.stream(frame(SOURCE, name.encode(), source=number))
        elif verb == "sample-stop":
            self.stream(frame(END, b"missed_ticks=0\n"))
        if verb != "exec":
            reply(frame(EXIT, b"0", seq=seq))

    def run(self, argv: list[str], seq: int) -> bool:
        reply = self.sockets["control"].sendall
        if "busybox" not in argv[0]:
            self.execs += 1
        if MODE == "refuse-shell" and argv[-1] == "echo setup":
            reply(frame(EXIT, b"7", seq=seq))
            return True
        if self.execs == 1:
            if MODE == "die-in-run":
                os.kill(os.getpid(), signal.SIGKILL)
            if MODE == "panic-in-run":
                self.print_console("[   9.0] Kernel panic - not syncing: softlockup: hung tasks\n")
                time.sleep(0.2)
                os._exit(0)
            if MODE in ("hang-in-run", "deaf-in-run"):
                return False
            if MODE == "lockup-in-run":
                threading.Thread(target=self.complain, daemon=True).start()
                return False
            if MODE == "oom-in-run":
                self.print_console("[   9.0] Out of memory: Killed process 77 (pktring)\n")
                time.sleep(0.1)
                reply(frame(EXIT, b"137", seq=seq))
                return True
        reply(frame(STDOUT, f"ran {' '.join(argv)}\n".encode(), seq=seq))
        reply(frame(EXIT, b"0", seq=seq))
        return True

    def complain(self) -> None:
        """As a kernel's watchdog does, only more often."""
        for turn in itertools.count(1):
            stuck = f"watchdog: BUG: soft lockup - CPU#1 stuck for {26 * turn}s! [dd:104]"
            for line in (stuck, "CPU: 1 PID: 104 Comm: dd", "Call Trace:", " <TASK>"):
                self.print_console(f"[{60 * turn:5d}.445485] {line}\n")
            time.sleep(0.3)

    def sample(self, label: bytes) -> None:
        data = frame(MARK, label, seq=self.round)
        for source in (1, 2):
            data += frame(SAMPLE, BUDDYINFO, source=source, seq=self.round)
        data += frame(ROUND_END, b"", seq=self.round)
        if self.round == 2 and MODE == "corrupt-stream":
            data = data[:60] + bytes([data[60] ^ 0xFF]) + data[61:]
        if self.round == 2 and MODE == "cut-stream":
            data = data[:-50]
        self.stream(data)
        if self.round == 2 and MODE == "cut-stream":
            self.sockets["stream"].shutdown(socket.SHUT_RDWR)
        self.round += 1

    def stream(self, data: bytes) -> None:
        try:
            self.sockets["stream"].sendall(data)
        except OSError:
            if MODE != "cut-stream":
                raise


def main() -> None:
    if "--version" in sys.argv:
        print("QEMU emulator version 0.0.0 (fake)")
        return
    if MODE == "refuse":
        print("qemu-system-x86_64: cannot set up guest memory 'ram0': Cannot allocate memory")
        sys.exit(1)
    if MODE == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    fake = Fake(sys.argv[1:])
    threading.Thread(target=fake.qmp, daemon=True).start()
    fake.boot()
    fake.serve()
    select.select([], [], [], 600)


if __name__ == "__main__":
    main()
