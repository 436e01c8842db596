"""What the benchmarks share: servers as pinned processes, h2load, and tables."""

import atexit
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def frame(message):
    """A gRPC message, uncompressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def varint(value):
    encoded = b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def field(number, data):
    """A length-delimited field of a protobuf message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def body(data):
    """A file with a request's body, for h2load. Gone when the benchmark ends."""
    file = tempfile.NamedTemporaryFile(prefix="raftoral-bench-", suffix=".bin", delete=False)
    file.write(data)
    file.close()
    atexit.register(os.unlink, file.name)
    return file.name


class Server:
    """A process that is measured. Pinned to `cores` when they are given."""

    def __init__(self, name, command, cores=None, **options):
        self.name = name
        pinned = ["taskset", "-c", cores, *command] if cores is not None else command
        self.process = subprocess.Popen(
            list(map(str, pinned)), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
        self.port = None

    def read_port(self):
        """Of servers that print the port on which they listen as their first line."""
        self.port = int(self.process.stdout.readline())
        return self

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    @property
    def resident_kibibytes(self):
        return self._memory("VmRSS")

    @property
    def anonymous_kibibytes(self):
        """Without the pages of the program's files, which processes share."""
        return self._memory("RssAnon")

    def _memory(self, kind):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(kind + r":\s+(\d+)", status)[1])

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


class Load:
    """One run of h2load: rates, and latencies from its log of single requests."""

    def __init__(self, url, connections, streams, seconds=None, requests=None, data=None, cores=None, grpc=True):
        log = tempfile.NamedTemporaryFile(prefix="raftoral-bench-", suffix=".log", delete=False)
        log.close()
        command = ["taskset", "-c", cores] if cores is not None else []
        command += ["h2load", "-c", connections, "-m", streams, "--log-file", log.name]
        command += ["-D", seconds, "--warm-up-time", "1"] if seconds else ["-n", requests]
        if grpc:
            command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        if data:
            command += ["-d", data]
        done = subprocess.run([*map(str, command), url], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        rate = re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", done.stdout)
        counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", done.stdout)
        assert rate and counts, done.stdout
        self.rate, self.count = float(rate[1]), int(counts[1])
        self.failed = int(counts[2]) + int(counts[3])
        with open(log.name) as lines:
            # Start (µs), status, duration (µs).
            self._durations = sorted(int(parts[2]) for parts in (line.split() for line in lines) if len(parts) == 3)
        os.unlink(log.name)

    def percentile(self, share):
        """Microseconds."""
        return self._durations[min(len(self._durations) - 1, int(len(self._durations) * share))] if self._durations else 0


def instructions_per_request(program, drive, few=500, many=2500):
    """By callgrind: what `many` requests take beyond `few`, for each of the difference. `drive(port, count)` asks."""
    # Debian's valgrind cannot read this compiler's debug information.
    bare = tempfile.NamedTemporaryFile(prefix="raftoral-bench-", suffix=".program", delete=False)
    bare.close()
    subprocess.run(["strip", "--strip-debug", "-o", bare.name, program], check=True)

    def total(count):
        log = tempfile.NamedTemporaryFile(prefix="raftoral-bench-", suffix=".callgrind", delete=False)
        log.close()
        server = subprocess.Popen(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={log.name}", bare.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            drive(int(server.stdout.readline()), count)
        finally:
            server.terminate()
            server.wait(60)
            server.stdout.close()
        collected = re.search(r"Collected : (\d+)", pathlib.Path(log.name).read_text())
        os.unlink(log.name)
        assert collected, "callgrind did not say how many instructions it counted"
        return int(collected[1])

    try:
        return (total(many) - total(few)) / (many - few)
    finally:
        os.unlink(bare.name)


def table(header, rows):
    """Prints columns: the first to the left, the others to the right."""
    rows = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for place, row in enumerate(rows):
        cells = [cell.ljust(width) if column == 0 else cell.rjust(width)
                 for column, (cell, width) in enumerate(zip(row, widths))]
        print("| " + " | ".join(cells) + " |")
        if place == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def print_circumstances(what):
    """Date, machine and load: a rate without them says little."""
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"{what}, {time.strftime('%Y-%m-%d %H:%M')} UTC, {os.cpu_count()} × {model[1] if model else os.uname().machine}, "
          f"load average {load}", flush=True)


def wait_until(what, condition, within=60):
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.05)
