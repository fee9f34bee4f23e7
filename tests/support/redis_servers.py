"""Redis and Valkey in every arrangement: one server with or without TLS, under Sentinel, a cluster."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import redis
from tapeline.storage.servers.binaries import valkey_program

from tests.support.session import SessionServers

NODES = 3
PASSWORD = "s3cret/@:%"
PASSWORD_IN_URL = "s3cret%2F%40%3A%25"
RIGHTS = (
    "~tl:*", "resetchannels", "-@all", "+@connection", "+mget", "+get", "+set", "+getrange", "+evalsha", "+script|load", "+scan",
    "+unlink", "+persist", "+pexpireat", "+cluster|slots", "+cluster|shards", "+cluster|myid",
)  # fmt: skip
"""What Tapeline's account needs of the online store; docs/how-to/online.md says the same."""
_READY_S = 20.0


class RedisServers:
    """Starts servers in a folder whose guard ends them when the tests end, however they do.

    Parameters
    ----------
    program
        ``valkey-server`` or ``redis-server``.
    """

    def __init__(self, program: Path) -> None:
        self.program = program
        self._guard = SessionServers({})
        self.folder = self._guard.folder

    def close(self) -> None:
        """End all servers."""
        self._guard.close()

    def start(self, *options: str, sentinel: str | None = None) -> int:
        """A server on a free port, or a sentinel with these settings; its port."""
        port = free_port()
        folder = self.folder / str(port)
        folder.mkdir()
        command = [str(self.program)]
        if sentinel is not None:
            (folder / "sentinel.conf").write_text(sentinel)
            command += ["sentinel.conf", "--sentinel"]
        port_option = "--tls-port" if "--tls-cert-file" in options else "--port"
        plain = ["--port", "0"] if port_option == "--tls-port" else []
        more = [*plain, port_option, str(port), "--bind", "127.0.0.1", *options]
        if sentinel is None:
            more += ["--save", "", "--unixsocket", "redis.sock", "--repl-diskless-sync-delay", "0"]
        subprocess.Popen(
            [*command, *more], cwd=folder, stdin=subprocess.DEVNULL, stdout=(folder / "log").open("wb"),
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        return port

    def tls(self) -> tuple[str, ...]:
        """Options for a server with a certificate of a new authority, which lies at ``folder/ca.crt``."""
        key, request, certificate, authority, ca_key = (
            self.folder / name for name in ("key", "request", "certificate", "ca.crt", "ca.key")
        )
        if not certificate.exists():
            (self.folder / "names").write_text("subjectAltName=IP:127.0.0.1")
            for words in (
                (
                    f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout {ca_key} -out {authority}"
                    " -addext keyUsage=critical,keyCertSign"
                ),
                f"req -newkey rsa:2048 -nodes -subj /CN=server -keyout {key} -out {request}",
                (
                    f"x509 -req -in {request} -CA {authority} -CAkey {ca_key} -CAcreateserial -days 2 -out {certificate}"
                    f" -extfile {self.folder / 'names'}"
                ),
            ):
                subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
        return (
            "--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(authority),
            "--tls-auth-clients", "no",
        )  # fmt: skip

    def single(self, *options: str) -> int:
        """One server that answers; its port."""
        port = self.start(*options)
        wait_until(functools.partial(self._answers, port, tls="--tls-cert-file" in options))
        return port

    def with_account(self, *options: str) -> int:
        """One server on which only an account with ``RIGHTS`` may do anything."""
        users = self.folder / "users.acl"
        users.write_text(f"user default off\nuser tapeline on >{PASSWORD} {' '.join(RIGHTS)}\n")
        port = self.start("--aclfile", str(users), *options)
        wait_until(functools.partial(self._answers, port, tls="--tls-cert-file" in options, password=PASSWORD))
        return port

    def group(self, name: str = "main") -> tuple[list[int], list[int]]:
        """A leader and a replica, watched by three sentinels; ports of the servers and of the sentinels."""
        leader = self.single()
        replica = self.single("--replicaof", f"127.0.0.1 {leader}")
        sentinels = [
            self.start(
                sentinel=f"sentinel monitor {name} 127.0.0.1 {leader} 2\n"
                f"sentinel down-after-milliseconds {name} 500\nsentinel failover-timeout {name} 3000\n"
            )
            for _ in range(3)
        ]

        def settled() -> bool:
            linked = redis.Redis(port=replica).info("replication")["master_link_status"] == "up"
            return linked and all(
                len(redis.Redis(port=port).sentinel_slaves(name)) == 1
                and len(redis.Redis(port=port).sentinel_sentinels(name)) == 2
                for port in sentinels
            )

        wait_until(settled)
        return [leader, replica], sentinels

    def cluster(self, *options: str) -> list[int]:
        """A cluster of three nodes; their ports."""
        ports = [
            self.single("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", *options) for _ in range(NODES)
        ]
        nodes = [self._client(port, tls="--tls-cert-file" in options) for port in ports]
        share = 16_384 // NODES
        for number, node in enumerate(nodes):
            last = 16_383 if number == NODES - 1 else (number + 1) * share - 1
            node.execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
            node.execute_command("CLUSTER MEET", "127.0.0.1", ports[0])

        def settled() -> bool:
            said = [node.execute_command("CLUSTER INFO") for node in nodes]
            return all(one["cluster_state"] == "ok" and one["cluster_known_nodes"] == str(NODES) for one in said)

        wait_until(settled)
        return ports

    def _client(self, port: int, *, tls: bool, password: str | None = None) -> redis.Redis:
        user = "tapeline" if password else None
        return redis.Redis(port=port, ssl=tls, ssl_cert_reqs="none", username=user, password=password)

    def _answers(self, port: int, *, tls: bool, password: str | None = None) -> bool:
        return bool(self._client(port, tls=tls, password=password).ping())


def free_port() -> int:
    """A port that nobody listens on; below those that a cluster's bus, 10,000 above, could not have."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55_000:
            return port


def wait_until(settled: Callable[[], bool], seconds: float = _READY_S) -> None:
    """Wait for servers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if settled():
                return
        except (redis.RedisError, OSError):
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"servers did not settle within {seconds} s")
        time.sleep(0.05)


def valkey() -> Path:
    """The embedded server's program, which has no TLS."""
    return valkey_program()


def debian_redis() -> tuple[Path | None, str]:
    """``redis-server`` of the machine, with TLS; or none, and why."""
    program = shutil.which("redis-server")
    if program is None:
        return None, "redis-server is not installed (Debian: apt install redis-server)"
    if shutil.which("openssl") is None:
        return None, "openssl is not installed: no certificates can be made"
    with_tls = b"ssl" in subprocess.run(["ldd", program], capture_output=True, check=False).stdout
    return (Path(program), "") if with_tls else (None, f"{program} was built without TLS")


REQUIRED = os.environ.get("TAPELINE_REQUIRE_REDIS") == "1"
