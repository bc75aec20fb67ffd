"""One complete server on a disk that can lose power."""
import imaplib
import os
import select
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

import lab

DOMAIN = "power.test"
PASSWORD = "correct horse"
READY_WITHIN = 30  # seconds


def room():
    """A directory in memory if the machine has one: nothing here needs a real disk."""
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="powercut-", dir=shm if os.access(shm, os.W_OK) else None))


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class DidNotStart(Exception):
    pass


class Server:
    def __init__(self, where, data, binary):
        self.binary, self.data = binary, Path(data)
        self.config, self.log = where / "postrider.yaml", where / "log"
        self.smtp, self.imaps = free_ports(2)
        self.process = None
        users = "".join(f"\n    {role}: 0" for role in ("front", "core", "out", "keys"))
        self.config.write_text(
            f"server:\n  hostname: mx.{DOMAIN}\n  data: {self.data}"
            + (f"\n  user:{users}" if os.geteuid() == 0 else "") +
            f"\nlisten:\n  smtp: ['127.0.0.1:{self.smtp}']\n  imaps: ['127.0.0.1:{self.imaps}']\n"
            + "".join(f"  {name}: []\n" for name in
                      ("submission", "submissions", "imap", "pop3", "pop3s")) +
            "queue:\n  shards: 2\n  retry_first: 1s\nlab:\n  enabled: yes\n"
            "store:\n  commit_log: 1M\n")  # so that its halves are used again and again

    def start(self, env=None):
        ready, tell = os.pipe()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "--config", self.config, "serve"], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, pass_fds=[tell],
                env=dict(env or os.environ, POSTRIDER_READY_FD=str(tell)))
        os.close(tell)
        try:
            if not select.select([ready], [], [], READY_WITHIN)[0] or not os.read(ready, 1):
                self.kill()
                raise DidNotStart(self.log.read_text(errors="replace")[-3000:])
        finally:
            os.close(ready)

    def ask(self, command, **args):
        return lab.ask(str(self.data / "admin.sock"), command, **args)

    def children(self):
        pid = self.process.pid
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def kill(self):
        """Every process of this server ends at once; on return all are gone."""
        try:
            children = self.children()
        except OSError:
            children = []
        handles = []
        for pid in children:
            try:
                handles.append(os.pidfd_open(pid))
            except ProcessLookupError:
                pass
        self.process.kill()
        for h in handles:
            try:
                signal.pidfd_send_signal(h, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        for h in handles:
            select.select([h], [], [], 10)
            os.close(h)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(60) == 0, self.log.read_text(errors="replace")[-3000:]

    def imap(self, address):
        tls = ssl.create_default_context(cafile=self.data / "keys" / "self-signed.pem")
        tls.check_hostname = False
        c = imaplib.IMAP4_SSL("127.0.0.1", self.imaps, ssl_context=tls, timeout=30)
        c.login(address, PASSWORD)
        return c

    def wait_queue_empty(self, seconds=30):
        end = time.monotonic() + seconds
        while rows := self.ask("queue list"):
            if time.monotonic() > end:
                return rows
            time.sleep(0.02)
        return []
