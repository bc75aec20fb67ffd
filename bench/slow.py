"""Very many slow destinations, some of which never answer: bench/run slow-destinations [DESTINATIONS [DEAD]].

All messages are accepted first, to be held until one moment (FUTURERELEASE).  From then on count: the messages a
second until the last destination that answers has its mail, each message's delay, and the memory of `out` for each
open connection.  Twice on fresh servers: with the dead destinations' mail in the queue, and without."""
import collections
import datetime
import os
import subprocess
import threading
import time

import lab as lab_module

NET, DELAY_MS, SENDERS = 77, 300, 4
MESSAGES = int(os.environ.get("BENCH_MESSAGES", "10000"))
DOMAIN = "d%d.many.test"


def address(number):
    return f"127.{NET}.{number // 250}.{number % 250 + 1}"


class Sink:
    def __init__(self, tool, port, dead, delay_ms=DELAY_MS):
        self.process = subprocess.Popen([tool, str(port), str(delay_ms), str(NET), str(dead)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"
        self.got = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            at, number = line.split()
            self.got.append((int(at) / 1e6, int(number)))

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.reader.join()
        self.process.stdout.close()


def submit(host, account, numbers, until=None):
    """One sender's messages on one connection, each transaction in one go."""
    hold = ""
    if until:
        hold = datetime.datetime.fromtimestamp(until, datetime.timezone.utc).strftime(" HOLDUNTIL=%Y-%m-%dT%H:%M:%SZ")
    with host.submit(account) as s:
        for number in numbers:
            s.send((f"MAIL FROM:<{account}>{hold}\r\nRCPT TO:<x@{DOMAIN % number}>\r\nDATA\r\n").encode())
            for want in "223":
                got = s.reply()
                assert got[0] == want, got
            s.send(b"Subject: bench\r\n\r\n" + b"x" * 1000 + b"\r\n.\r\n")
            got = s.reply()
            assert got[0] == "2", got


def zone_of(destinations):
    return "".join(f"{DOMAIN % i} A {address(i)}\n" for i in range(destinations))


def send_elsewhere(host, more=""):
    """The sink listens on all addresses, so on a port of its own, which is returned."""
    port = host.mx + 1
    with open(host.config, encoding="ascii") as f:
        text = f.read()
    with open(host.config, "w", encoding="ascii") as f:
        f.write(text.replace(f"relay:\n  port: {host.mx}\n", f"relay:\n  port: {port}\n  ipv6: no\n{more}"))
    host.settings("")
    return port


def reasons(host):
    """What the queue says about what is still in it."""
    rcpts = [r for q in host.queue() for r in q["recipients"]]
    return collections.Counter((r["attempts"], r["in_delivery"], r["reply"][-60:]) for r in rcpts).most_common(5)


def one_run(tool, numbers, zone, dead, pss_of):
    with lab_module.Lab(zone=zone) as lab:
        sink = Sink(tool, send_elsewhere(lab.alpha), dead)
        out = lab.alpha.roles()["out"]
        idle, idle_fds = pss_of(out), len(os.listdir(f"/proc/{out}/fd"))
        accounts = [lab.alpha.account(f"s{i}")[0] for i in range(SENDERS)]
        until = int(time.time()) + 15 + len(numbers) // 300
        threads = [threading.Thread(target=submit, args=(lab.alpha, accounts[i], numbers[i::SENDERS], until))
                   for i in range(SENDERS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert time.time() < until and not sink.got, "the messages were not accepted in time"
        want, most, cost = sum(n >= dead for n in numbers), 0, 0.0
        while len(sink.got) < want:
            assert time.time() < until + 120, f"{len(sink.got)} of {want} after two minutes: {reasons(lab.alpha)}"
            time.sleep(0.2)
            n = len(os.listdir(f"/proc/{out}/fd")) - idle_fds
            if n > most:
                most, cost = n, (pss_of(out) - idle) / n
        sink.close()
        times = sorted(at - until for at, _ in sink.got)
        assert len(times) == want, "a message came twice"
        return {"rate": want / times[-1], "median": times[want // 2], "p95": times[want * 95 // 100], "last": times[-1],
                "open": most, "kib": cost}


def measure(tool, pss_of, destinations=5000, dead=500):
    zone = zone_of(destinations)
    numbers = [i % destinations for i in range(MESSAGES)]
    print("| destinations | dead | messages | messages/s | median s | p95 s | last s | connections at most | KiB of out for each |")
    print("|---|---|---|---|---|---|---|---|---|")
    p95 = {}
    for bad in (dead, 0):
        part = numbers if bad else [n for n in numbers if n >= dead]
        r = one_run(tool, part, zone, dead, pss_of)
        p95[bad] = r["p95"]
        print(f"| {destinations if bad else destinations - dead} | {bad} | {len(part)} | {r['rate']:.0f} | {r['median']:.2f} "
              f"| {r['p95']:.2f} | {r['last']:.2f} | {r['open']} | {r['kib']:.1f} |", flush=True)
    print(f"\np95 of the destinations that answer, with / without the dead ones: {p95[dead] / p95[0]:.2f}")
