"""What senders that trickle cost everybody else: bench/run trickle [SESSIONS].

So many SMTP sessions from many addresses say one byte every ten seconds, while one honest client after another
connects, sends a message and leaves.  Reported: the honest ones' time for all of that without and with the
crowd, taken in turn, and what each parked session costs in memory.  The crowd lives in processes of its own."""
import multiprocessing
import os
import resource
import select
import socket
import statistics
import time

BYTE = b"N"  # a line of these ends well below the longest line that is allowed
EVERY = 10.0  # seconds between two bytes of a session
PROBES = 2000  # of each round
ROUNDS = 3
DRIVERS = 2


def raise_fd_limit(n):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(n, hard) if os.geteuid() == 0 else hard,) * 2)


def crowd(number, sessions, address, control):
    """One driver: opens its sessions, says so, and trickles until it is told to end."""
    raise_fd_limit(sessions + 100)
    socks = []
    for i in range(sessions):
        s = socket.socket()
        s.bind((f"127.{210 + number}.{i // 250}.{1 + i % 250}", 0))
        s.connect(address)
        s.recv(1000)
        socks.append(s)
    control.send(len(socks))
    step, at = EVERY / sessions, time.monotonic()
    while not control.poll():
        for s in socks:
            s.send(BYTE)
            at += step
            if at - time.monotonic() > 0.005:
                time.sleep(at - time.monotonic())
            if control.poll():
                break
    poll = select.poll()
    for s in socks:
        poll.register(s, select.POLLIN)
    control.send(len(socks) - len(poll.poll(0)))  # who was told something was told to leave


class Crowd:
    def __init__(self, sessions, address):
        self.pipes, self.drivers = [], []
        for n in range(DRIVERS):
            mine, theirs = multiprocessing.Pipe()
            d = multiprocessing.Process(target=crowd, args=(n, sessions // DRIVERS, address, theirs), daemon=True)
            d.start()
            self.pipes.append(mine)
            self.drivers.append(d)
        self.size = sum(p.recv() for p in self.pipes)

    def end(self):
        """How many were still welcome."""
        for p in self.pipes:
            p.send("end")
        alive = sum(p.recv() for p in self.pipes)
        for d in self.drivers:
            d.join()
        return alive


def probe(address):
    """Seconds of one honest client."""
    start = time.monotonic()
    with socket.create_connection(address) as s:
        f = s.makefile("rb")
        f.readline()
        for line, lines in ((b"EHLO probe.test", 0), (b"MAIL FROM:<p@probe.test>", 1), (b"RCPT TO:<box0@alpha.test>", 1),
                            (b"DATA", 1), (b"Subject: probe\r\n\r\nx\r\n.", 1), (b"QUIT", 1)):
            s.sendall(line + b"\r\n")
            got = f.readline()
            while got[3:4] == b"-":
                got = f.readline()
            assert got[:1] in b"23", got
    return time.monotonic() - start


def probes(address):
    times = sorted(probe(address) for _ in range(PROBES))
    return times[len(times) // 2] * 1e3, times[len(times) * 95 // 100] * 1e3


def split(values):
    return [statistics.median(v[i] for v in values) for i in (0, 1)]


def measure(server, pss_of, sessions):
    """SERVER has address, port and parts() (name -> pid)."""
    address, without, with_crowd, alive = (server.address, server.port), [], [], []
    probes(address)
    before = {part: pss_of(pid) for part, pid in server.parts().items()}
    grown = {}
    for _ in range(ROUNDS):
        without.append(probes(address))
        c = Crowd(sessions, address)
        grown = {part: pss_of(pid) - before[part] for part, pid in server.parts().items()}
        with_crowd.append(probes(address))
        alive.append(c.end())
        time.sleep(1)
    (m0, p0), (m1, p1) = split(without), split(with_crowd)
    print(f"| parked sessions | alive at the end | median ms, without | with | ratio | p95 ms, without | with | ratio "
          "| KiB per parked session |\n|---|---|---|---|---|---|---|---|---|")
    print(f"| {c.size} | {min(alive)} | {m0:.2f} | {m1:.2f} | {m1 / m0:.2f} | {p0:.2f} | {p1:.2f} | {p1 / p0:.2f} "
          f"| {sum(grown.values()) / c.size:.2f} ({', '.join(f'{k} {v / c.size:.2f}' for k, v in grown.items())}) |")
