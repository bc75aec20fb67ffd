"""Peers that mean harm: what they hold must stay small, end in time, and cost nobody else anything."""

import contextlib
import os
import random
import signal
import socket
import struct
import threading
import time

import pytest

from lab import Lab, Raw, wait_for

MANY = 900
BODY = 120_000  # just below what a message may keep in memory


def source(n):
    """One of many clients: the limit per address is not what is tested here."""
    return f"127.201.{n // 100}.1"


def connect(port, n=0, timeout=30):
    s = socket.socket()
    s.settimeout(timeout)
    s.bind((source(n), 0))
    s.connect(("127.0.0.1", port))
    return s


class Peer(Raw):
    """SMTP from an address of its own, up to any stage."""

    def __init__(self, port, n=0):
        self.sock, self.data = connect(port, n), b""

    def reply(self):
        while True:
            line = self.line()
            if line is None or line[3:4] != b"-":
                return line

    def say(self, text):
        self.send(text.encode() + b"\r\n")
        return self.reply()

    def to_data(self, to):
        self.reply()
        for text in "EHLO x.example", "MAIL FROM:<peer@x.example>", f"RCPT TO:<{to}>":
            assert self.say(text).startswith(b"250")
        assert self.say("DATA").startswith(b"354")


def reset(s):
    """Closes with RST."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def deliver(host, to, subject="probe"):
    p = Peer(host.smtp)
    try:
        p.to_data(to)
        p.send(f"Subject: {subject}\r\n\r\nx\r\n.\r\n".encode())
        return p.reply()
    finally:
        p.sock.close()


def assert_served(host, address, within=5):
    """Somebody honest is served, and soon."""
    start = time.monotonic()
    assert deliver(host, address).startswith(b"250")
    assert time.monotonic() - start < within


@contextlib.contextmanager
def open_peers(*args):
    peers = [Peer(*args, n) for n in range(MANY)]
    try:
        yield peers
    finally:
        for p in peers:
            p.sock.close()


def test_slow_bodies_share_a_bound(alpha):
    """Senders that stop in the middle of a body cost disk, not memory, and lose nothing by it."""
    address, _ = alpha.account()
    before = alpha.rss("core"), alpha.rss("front")
    lines = [b"%06d%s\r\n" % (i, b"x" * 92) for i in range(BODY // 100)]
    with open_peers(alpha.smtp) as peers:
        for i, p in enumerate(peers):
            p.to_data(address)
            p.send(b"Subject: %d\r\n\r\n" % i)
        for p in peers:
            p.send(b"".join(lines))
        assert_served(alpha, address)
        time.sleep(1)
        grown = alpha.rss("core") - before[0], alpha.rss("front") - before[1]
        # 64 MiB of bodies and what a session costs; the sum of all bodies is 108 MB.
        assert grown[0] < 90 << 20, f"core grew by {grown[0]}"
        assert grown[1] < 40 << 20, f"front grew by {grown[1]}"
        for p in peers[:20] + peers[-20:]:
            p.send(b".\r\n")
            assert p.reply().startswith(b"250")
    got = [m for m in alpha.wait_messages(address, 41) if b"Subject: probe" not in m]
    assert len(got) == 40
    assert all(m.endswith(b"\r\n\r\n" + b"".join(lines)) for m in got)


def test_idle_and_half_open_sessions(alpha):
    """Idle sessions are cheap, silent handshakes are nobody's queue, and both leave no trace."""
    address, _ = alpha.account()
    front = alpha.roles()["front"]

    def fds():
        return len(os.listdir(f"/proc/{front}/fd"))

    held, before = fds(), alpha.rss("front")
    silent = [connect(alpha.imaps, n) for n in range(300)]
    torn = [connect(alpha.submissions, n) for n in range(300)]
    for s in torn:
        s.sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # a ClientHello that never ends
    with open_peers(alpha.smtp) as peers:
        for p in peers:
            p.reply()
        assert_served(alpha, address)
        alpha.imaplib(address).logout()  # a whole handshake goes through
        assert (alpha.rss("front") - before) / (MANY + 600) < 32 << 10
    for s in silent + torn:
        reset(s)
    wait_for(lambda: fds() <= held + 2, what="front to close what it held")


STAGES = ["EHLO x.example", "MAIL FROM:<peer@x.example>", "RCPT TO:<{}>", "DATA",
          "Subject: half\r\n\r\nsome", "y" * 20000]


@pytest.mark.parametrize("end", ["reset", "close", "shutdown"])
def test_end_at_every_stage(alpha, end):
    address, _ = alpha.account()
    front = alpha.roles()["front"]
    held = len(os.listdir(f"/proc/{front}/fd"))
    for _ in range(5):
        for n in range(len(STAGES) + 1):
            p = Peer(alpha.smtp)
            p.reply()
            for k, text in enumerate(STAGES[:n]):
                p.send(text.format(address).encode() + b"\r\n")
                if k < 4:
                    p.reply()
            if end == "reset":
                reset(p.sock)
            elif end == "close":
                p.sock.close()
            else:
                p.sock.shutdown(socket.SHUT_WR)
                assert p.rest() is not None
                p.sock.close()
    wait_for(lambda: len(os.listdir(f"/proc/{front}/fd")) <= held + 2, what="no session left")
    wait_for(lambda: alpha.ask("status")[0]["sessions"] == 0, what="none in core")
    assert_served(alpha, address)
    assert len(alpha.wait_messages(address)) == 1  # none of the halves


def test_peers_that_never_read(alpha):
    address, _ = alpha.account()
    before = alpha.rss("front")
    peers = [connect(alpha.smtp, n, timeout=0.2) for n in range(30)]
    for s in peers:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        with contextlib.suppress(TimeoutError):
            for _ in range(1000):
                s.sendall(b"HELP\r\n" * 1000)
    assert_served(alpha, address)
    assert alpha.rss("front") - before < 30 << 20
    for s in peers:
        s.close()


def test_flood_of_trivial_commands(alpha):
    """What front answers by itself is cheap, but there is no end to it; others get their turn."""
    address, _ = alpha.account()
    peers = [connect(alpha.smtp, n) for n in range(100)]
    for s in peers:
        s.setblocking(False)
    over = threading.Event()

    def flood():
        while not over.is_set():
            for s in peers:
                with contextlib.suppress(BlockingIOError):
                    s.send(b"NOOP\r\n" * 4000)
                with contextlib.suppress(BlockingIOError):
                    s.recv(1 << 20)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        time.sleep(1)
        for _ in range(3):
            assert_served(alpha, address)
    finally:
        over.set()
        thread.join()
    for s in peers:
        s.close()


def test_front_that_dies_with_sessions_logged_in():
    """The next front's sessions have the numbers of the last one's; they must share nothing."""
    with Lab() as lab:
        lab.may_die = True
        share_nothing(lab.alpha)


def share_nothing(alpha):
    victim, _ = alpha.account()
    address, _ = alpha.account()
    deliver(alpha, victim, "secret")
    alpha.wait_messages(victim)
    for _ in range(3):
        old = [alpha.imap_raw(victim) for _ in range(8)]
        for c in old:
            c.ok("SELECT INBOX")
        pid = alpha.roles()["front"]
        os.kill(pid, signal.SIGKILL)
        fresh = []

        def reach():
            with contextlib.suppress(OSError, AssertionError):
                fresh.append(alpha.imap_raw())
            return len(fresh) == 8
        wait_for(reach, what="a new front")
        for c in fresh:
            _, final = c.cmd("UID STORE 1 +FLAGS (\\Deleted)")
            assert not final.startswith(b"OK"), final
            c.ok(f"LOGIN {address} {alpha.password(address)}")
            c.sock.close()
        for c in old:
            c.sock.close()
    assert len(alpha.messages(victim)) == 1
    assert_served(alpha, address)


def test_logins_that_fail_do_not_stop_others(alpha):
    """Many wrong passwords keep the threads for them busy; mail and open sessions do not wait."""
    address, _ = alpha.account()
    other, _ = alpha.account()
    there = alpha.imap_raw(other)
    over = threading.Event()

    def guess():
        while not over.is_set():
            with contextlib.suppress(OSError, AssertionError):
                c = alpha.imap_raw()
                for _ in range(3):
                    c.cmd(f"LOGIN {address} {random.getrandbits(64):x}")
                c.sock.close()

    threads = [threading.Thread(target=guess) for _ in range(8)]
    for t in threads:
        t.start()
    try:
        time.sleep(1)
        for _ in range(5):
            assert_served(alpha, address)
            start = time.monotonic()
            there.ok("STATUS INBOX (MESSAGES)")
            assert time.monotonic() - start < 5
    finally:
        over.set()
        for t in threads:
            t.join()
