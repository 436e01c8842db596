"""Real nodes: processes of the built program, and typed calls to them."""

import os
import resource
import socket
import subprocess
import threading
import time

import grpc
import raftoral_pb2 as pb
import raftoral_pb2_grpc as rpc

# Never what decides whether a test passes: far more than a busy machine needs.
PATIENCE = 120


def many_descriptors(wanted):
    """Lets this process, and those that it starts, have so many connections and what goes with them; how many it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(soft, wanted + 500 if hard == resource.RLIM_INFINITY else min(hard, wanted + 500))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return min(wanted, limit - 500)


def wait_for(what, condition, within=PATIENCE):
    """What `condition` gives once it gives something true."""
    deadline = time.monotonic() + within
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.02)


_taken_ports = set()


def free_port():
    """A port that nobody listens on and that this run has not given out. Outside of the range from which the system
    takes the local ports of outgoing connections, so that nobody takes it in between."""
    lowest = int(open("/proc/sys/net/ipv4/ip_local_port_range").read().split()[0])
    # Runs beside each other, whose ids follow each other, begin far apart.
    for port in range(max(1024, lowest - 12000) + os.getpid() * 89 % 8000, lowest):
        if port in _taken_ports:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken_ports.add(port)
        return port
    raise AssertionError("no free port")


class Output:
    """Collects the lines of a pipe while the process runs."""

    def __init__(self, pipe):
        self._pipe, self._bytes = pipe, b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while chunk := os.read(self._pipe.fileno(), 65536):
            self._bytes += chunk
        self._pipe.close()

    @property
    def text(self):
        return self._bytes.decode(errors="replace")

    def finish(self):
        self._thread.join(PATIENCE)
        return self.text


class Program:
    """One process of raftoral."""

    def __init__(self, command, directory):
        self.command = command
        self.process = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.out, self.err = Output(self.process.stdout), Output(self.process.stderr)

    @property
    def is_running(self):
        return self.process.poll() is None

    def send(self, number):
        self.process.send_signal(number)

    def wait(self, within=PATIENCE):
        """The exit code; the output is complete then."""
        code = self.process.wait(within)
        self.out.finish()
        self.err.finish()
        return code

    def end(self):
        if self.is_running:
            self.process.kill()
        self.wait()


class Node(Program):
    """A serving node."""

    def __init__(self, command, directory, port):
        super().__init__(command, directory)
        self.port, self.address = port, f"127.0.0.1:{port}"
        self._channel = None

    def wait_until_running(self, within=PATIENCE):
        def runs():
            if "Press Ctrl+C" in self.out.text:
                return True
            assert self.is_running, f"{self.command} ended:\n{self.out.text}{self.err.text}"
            return False

        wait_for(f"{self.address} runs", runs, within)
        return self

    @property
    def channel(self):
        if self._channel is None:
            self._channel = grpc.insecure_channel(
                self.address,
                options=[("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)],
            )
        return self._channel

    @property
    def raft(self):
        return rpc.RaftServiceStub(self.channel)

    @property
    def workflows(self):
        return rpc.WorkflowServiceStub(self.channel)

    @property
    def variables(self):
        return rpc.VariableServiceStub(self.channel)

    @property
    def cluster(self):
        return rpc.ClusterServiceStub(self.channel)

    def status(self, timeout=60):
        return self.cluster.Status(pb.ClusterStatusRequest(), timeout=timeout)

    def group(self, group=1):
        return next(g for g in self.status().groups if g.group_id == group)

    def end(self):
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        super().end()


class Processes:
    """Starts processes in one directory and remembers them."""

    def __init__(self, program, directory):
        self.program, self.directory, self.started = program, directory, []

    def run(self, *flags, within=PATIENCE):
        """Runs a command to its end: exit code, standard output, standard error."""
        done = subprocess.run(
            [self.program, *map(str, flags)], cwd=self.directory, capture_output=True, text=True, timeout=within
        )
        return done.returncode, done.stdout, done.stderr

    def launch(self, *flags):
        program = Program([self.program, *map(str, flags)], self.directory)
        self.started.append(program)
        return program

    def node(self, *flags, port=None, prefix=()):
        """A node at a free port, or at the one given; whoever wants it to run waits for it. `prefix`: a command that
        becomes the program."""
        port = port or free_port()
        flags = ("--address", f"127.0.0.1:{port}", *map(str, flags))
        node = Node([*map(str, prefix), self.program, *flags], self.directory, port)
        self.started.append(node)
        return node

    def cluster(self, count):
        """Nodes that are voters of every group."""
        first = self.node("--bootstrap").wait_until_running()
        nodes = [first] + [self.node("--peers", first.address, "--discovery-timeout", 300) for _ in range(count - 1)]
        for node in nodes:
            node.wait_until_running()
        wait_for_voters(first, count)
        return nodes

    def end_all(self):
        for program in self.started:
            program.end()


def wait_for_voters(node, count):
    def all_vote():
        groups = node.status().groups
        return len(groups) == 2 and all(sum(r.voter for r in g.replicas) == count for g in groups)

    wait_for(f"{count} voters", all_vote)


def leader_and_followers(nodes, group=1):
    """The leader of a group, once every node names the same."""

    def agreed():
        seen = {node.port: node.status() for node in nodes}
        leaders = {next(g for g in s.groups if g.group_id == group).leader_node_id for s in seen.values()}
        if len(leaders) != 1 or leaders == {0}:
            return None
        leader = next((n for n in nodes if seen[n.port].node_id in leaders), None)
        return leader and (leader, [n for n in nodes if n is not leader])

    return wait_for("all nodes know the same leader", agreed)


def failure(call):
    """The status with which a call fails."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"expected a failure, got {answer}")


def json_payload(text):
    return pb.Payload(encoding="json/plain", data=text.encode())


def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


