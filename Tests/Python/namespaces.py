"""Machines in network namespaces: each has a name, an address and a hosts file of its own, as containers of one compose
project have. Links between them can be cut one way or both, and slowed."""

import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
SUBNET = "10.213.77"
HUB = f"{SUBNET}.254"


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


class Machines:
    """A bridge in a namespace of its own, and a namespace for each name that hangs on it."""

    def __init__(self, names):
        assert os.geteuid() == 0, "network namespaces need root: run the tests as root"
        for tool in ("ip", "nft", "unshare"):
            assert shutil.which(tool), f"{tool} is missing: run scripts/deps.sh iproute2 nftables util-linux"
        self.prefix = f"raftoral-{os.getpid()}-"
        self.addresses = {name: f"{SUBNET}.{number}" for number, name in enumerate(names, start=1)}
        self.namespaces, self.processes, self._slow_count = [], [], 0
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self):
        self._add_namespace("hub")
        self._inside("hub", "ip", "link", "add", "bridge", "type", "bridge")
        self._inside("hub", "ip", "address", "add", f"{HUB}/24", "dev", "bridge")
        self._inside("hub", "ip", "link", "set", "bridge", "up")
        hosts = "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in self.addresses.items())
        for number, (name, address) in enumerate(self.addresses.items(), start=1):
            self._add_namespace(name)
            (self._etc(name) / "hosts").write_text(hosts)
            hub, own = self.prefix + "hub", self.prefix + name
            ip("-n", hub, "link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0", "netns", own)
            ip("-n", hub, "link", "set", f"to{number}", "master", "bridge", "up")
            ip("-n", own, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", own, "link", "set", "eth0", "up")
            self._inside(name, "nft", "add table ip cut")
            self._inside(name, "nft", "add chain ip cut in { type filter hook input priority 0; }")
            self._inside(name, "nft", "add chain ip cut out { type nat hook output priority -100; }")

    def _add_namespace(self, name):
        self._etc(name).mkdir(parents=True)
        ip("netns", "add", self.prefix + name)
        self.namespaces.append(name)
        ip("-n", self.prefix + name, "link", "set", "lo", "up")

    def _etc(self, name):
        return pathlib.Path("/etc/netns") / (self.prefix + name)

    def _inside(self, name, *command):
        done = subprocess.run(
            ["ip", "netns", "exec", self.prefix + name, *command], capture_output=True, text=True)
        assert done.returncode == 0, f"{command} in {name}: {done.stderr}"

    def command(self, name, *words):
        """What runs the words on the machine, under its host name. The process becomes the program itself."""
        with_name = ["unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh"]
        return ["ip", "netns", "exec", self.prefix + name, *with_name, *map(str, words)]

    def start(self, name, *words, **options):
        process = subprocess.Popen(self.command(name, *words), **options)
        self.processes.append(process)
        return process

    # MARK: - Links

    def cut(self, sender, receiver):
        """Nothing that the sender sends arrives any more."""
        self._inside(receiver, "nft", f"add rule ip cut in ip saddr {self.addresses[sender]} drop")

    def part(self, *sides):
        """Nobody of one side hears anybody of another."""
        for side in sides:
            for other in sides:
                if side is not other:
                    for sender in side:
                        for receiver in other:
                            self.cut(sender, receiver)

    def slow(self, client, server, milliseconds, port=5001):
        """What connects from one machine to the other goes through a proxy that keeps all bytes for a while."""
        self._slow_count += 1
        listens = 9000 + self._slow_count
        proxy = self.start(
            "hub", sys.executable, HERE / "slow_proxy.py", HUB, listens, self.addresses[server], port, milliseconds,
            stdout=subprocess.PIPE)
        assert proxy.stdout.readline() == b"ready\n"
        rule = f"ip daddr {self.addresses[server]} tcp dport {port} dnat to {HUB}:{listens}"
        self._inside(client, "nft", f"add rule ip cut out {rule}")

    def heal(self):
        """Every link works again. Connections through a proxy go on through it."""
        for name in self.addresses:
            self._inside(name, "nft", "flush table ip cut")

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    pipe.close()
        for name in self.namespaces:
            ip("netns", "delete", self.prefix + name)
        for name in ["hub", *self.addresses]:
            shutil.rmtree(self._etc(name), ignore_errors=True)
