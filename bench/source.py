#!/usr/bin/env python3
"""Sends messages over SMTP, for what smtp-source cannot do: STARTTLS, and a recipient of its own for each message.

    source.py ADDRESS PORT SIZE COUNT SESSIONS once|keep clear|tls SEED NAME MAILBOXES uniform|zipf

The mailboxes are NAME0..NAME<MAILBOXES-1>@alpha.test; Zipf's exponent is 1.  Like smtp-source it does not pipeline."""
import bisect
import itertools
import random
import socket
import ssl
import sys
import threading

DOMAIN = "alpha.test"


class Session:
    def __init__(self, address, context):
        self.sock = socket.create_connection(address, timeout=120)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.want(b"220")
        self.say(b"EHLO sender.test", b"250")
        if context:
            self.say(b"STARTTLS", b"220")
            self.sock = context.wrap_socket(self.sock)
            self.say(b"EHLO sender.test", b"250")

    def want(self, code):
        reply = b""
        while not reply.endswith(b"\r\n") or reply.split(b"\r\n")[-2][3:4] != b" ":
            got = self.sock.recv(4096)
            assert got, f"closed after {reply!r}"
            reply += got
        assert reply.startswith(code), reply

    def say(self, line, code):
        self.sock.sendall(line + b"\r\n")
        self.want(code)

    def send(self, rcpt, body):
        self.say(b"MAIL FROM:<x@sender.test>", b"250")
        self.say(b"RCPT TO:<%s>" % rcpt, b"250")
        self.say(b"DATA", b"354")
        self.sock.sendall(body)
        self.want(b"250")

    def close(self):
        self.say(b"QUIT", b"221")
        self.sock.close()


def recipients(count, seed, name, mailboxes, spread):
    rng = random.Random(seed)
    if spread == "uniform":
        picks = (rng.randrange(mailboxes) for _ in range(count))
    else:
        sums = list(itertools.accumulate(1 / (i + 1) for i in range(mailboxes)))
        picks = (bisect.bisect_left(sums, rng.random() * sums[-1]) for _ in range(count))
    return [f"{name}{i}@{DOMAIN}".encode() for i in picks]


def run(address, rcpts, once, context, body):
    session = None
    for rcpt in rcpts:
        session = session or Session(address, context)
        session.send(rcpt, body)
        if once:
            session.close()
            session = None
    if session:
        session.close()


def main():
    host, port, size, count, sessions, once, tls, seed, name, mailboxes, spread = sys.argv[1:]
    context = ssl._create_unverified_context() if tls == "tls" else None  # pylint: disable=protected-access
    line = b"X" * 78 + b"\r\n"
    body = b"From: <x@sender.test>\r\nTo: <x@alpha.test>\r\nSubject: test\r\n\r\n" + line * (int(size) // 80) + b".\r\n"
    rcpts = recipients(int(count), int(seed), name, int(mailboxes), spread)
    failed = []

    def work(part):
        try:
            run((host, int(port)), part, once == "once", context, body)
        except (OSError, AssertionError) as e:
            failed.append(e)
    threads = [threading.Thread(target=work, args=(rcpts[i::int(sessions)],)) for i in range(int(sessions))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failed:
        sys.exit(f"source: {failed[0]}")


if __name__ == "__main__":
    main()
