#!/usr/bin/env python3
"""Runs every Rust test: several test programs at a time, because many of them wait for servers most of the time, and a
program's own tests on servers come one after the other. One line for each program, all that it printed where it failed, and
at the end the sum of all their tests, with those named that were skipped because this machine lacks what they need. The
documentation has no examples that run: cargo would build half of the dependencies once more to find none.

    scripts/test-rust.py [NAME…]     only the programs of these names, such as `kafka` or `atelier_stores`

TEST_LANES (3) says how many at a time.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

# The longest first, so that none of them is left alone at the end.
LONG = ["kafka", "apache_kafka", "gateway", "planted", "kafka_security", "doctor", "pipeline", "urgency", "crash", "seeds"]
# Several times what the longest takes where other programs use the machine too. One that stands still is to say where.
LIMIT_S = 900
RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;", re.MULTILINE)
# What a test prints that needs something which this machine lacks, and passes; `--show-output` lets it be seen.
SKIPPED = "skipped: "
OUTPUT_OF = re.compile(r"^---- (\S+) stdout ----$")
started = []


def programs():
    """Name, program and folder of everything that `cargo test` would run but the examples in the documentation."""
    command = ["cargo", "test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        sys.exit(built.returncode)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            yield message["target"]["name"], message["executable"], Path(message["manifest_path"]).parent


def run(program, folder):
    """What it printed, whether all passed, and the seconds that it took."""
    began = time.monotonic()
    # No pipe: what a test leaves behind by mistake would hold it open, and reading it would not end.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [program, "--show-output"], cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, "CARGO_MANIFEST_DIR": str(folder)}, start_new_session=True,
        )
        started.append(process)
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            output.write(f"\nended: it went on for {LIMIT_S} s\n".encode())
        output.seek(0)
        printed = output.read().decode(errors="replace")
    return printed, process.returncode == 0, time.monotonic() - began


def skipped(printed):
    """The tests that passed without having been run, and why."""
    found, test = {}, "a test"
    for line in printed.splitlines():
        if output := OUTPUT_OF.match(line):
            test = output[1]
        elif line.startswith(SKIPPED):
            found.setdefault(test, line.removeprefix(SKIPPED))
    return found


def main():
    wanted = sys.argv[1:]
    found = [program for program in programs() if not wanted or program[0] in wanted]
    if not found:
        sys.exit(f"there is no test program of the name {', '.join(wanted)}")
    found.sort(key=lambda program: LONG.index(program[0]) if program[0] in LONG else len(LONG))
    failed, left_out = [], []
    counts = [0, 0, 0]

    def report(count, name, printed, passed, seconds):
        print(f"[{count:3}/{len(found)}] {'ok    ' if passed else 'FAILED'} {seconds:6.1f} s  {name}", flush=True)
        for result in RESULT.findall(printed):
            counts[:] = [sum(pair) for pair in zip(counts, map(int, result))]
        without_running = skipped(printed)
        counts[0] -= len(without_running)
        counts[2] += len(without_running)
        left_out.extend(f"{name}: {test}: {reason}" for test, reason in without_running.items())
        if not passed:
            failed.append(name)
            print(printed, flush=True)

    # The programs have sessions of their own, so whoever ends this one does not end them: it has to.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ThreadPoolExecutor(int(os.environ.get("TEST_LANES", "3"))) as lanes:
        running = {lanes.submit(run, program, folder): f"{folder.name}: {name}" for name, program, folder in found}
        try:
            for count, done in enumerate(as_completed(running), start=1):
                report(count, running[done], *done.result())
        except KeyboardInterrupt:
            lanes.shutdown(wait=False, cancel_futures=True)
            for process in started:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)
            sys.exit(130)
    for one in left_out:
        print(f"skipped  {one}")
    print("tests: {} passed, {} failed, {} skipped".format(*counts))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


main()
