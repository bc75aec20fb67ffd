"""Power cuts under load: what was answered `250` (or OK) is there afterwards, once.

A life of the server: start on the disk that the last cut left, check the mailboxes against what its
clients were told, then load from many clients, and at a random moment the power fails.  Everything
is drawn from POWERCUT_SEED, apart from the moment as the scheduler makes it.

The suite must bite: with any one sync taken out of the server it has to find a loss soon.
"""
import collections
import hashlib
import imaplib
import os
import random
import shutil
import smtplib
import subprocess
import threading
import time
from pathlib import Path

import pytest

import server
from powercut import Disk

ROUNDS = int(os.environ.get("POWERCUT_ROUNDS", "50"))
SEED = int(os.environ.get("POWERCUT_SEED", "1"))
BINARY = os.environ["POSTRIDER"]
BITE_WITHIN = 40  # cuts
LIVES = 10  # of one disk, then a new one is taken
USERS = [f"{name}@{server.DOMAIN}" for name in ("ann", "ben", "cleo", "dan")]
SENDERS = 8
LARGE = 160 * 1024  # a blob: more than store.inline

imaplib._MAXLINE = 64 * 1024 * 1024


class Loss(Exception):
    """A promise was broken."""


def digest(body):
    return hashlib.sha256(body).hexdigest()[:24]


def message(ident, rng, large):
    line = b"%032x the quick brown fox jumps over the lazy dog\r\n"
    lines = LARGE // 77 + rng.randrange(64) if large else rng.randrange(4, 60)
    body = b"".join(line % rng.getrandbits(128) for _ in range(lines))
    head = (f"From: <load@elsewhere.test>\r\nTo: <someone@{server.DOMAIN}>\r\nSubject: load\r\n"
            f"Message-ID: <{ident}@elsewhere.test>\r\nX-Test: {ident}\r\n"
            f"X-Digest: {digest(body)}\r\n\r\n")
    return head.encode() + body


class Ledger:
    """What clients attempted, and what they were promised."""

    def __init__(self):
        self.lock = threading.Lock()
        self.copies = {}  # (id, user) -> "promised", "perhaps", "gone", "perhaps gone"
        self.accounts = {}  # address -> the same
        self.counts = collections.Counter()
        self.power_fails = False

    def note(self, ident, users, state):
        with self.lock:
            for u in users:
                self.copies[ident, u] = state

    def check(self, user, found):
        for (ident, u), state in self.copies.items():
            n = found.get(ident, 0) if u == user else None
            if n is None:
                continue
            least, most = {"promised": (1, 1), "perhaps": (0, 1), "gone": (0, 0),
                           "perhaps gone": (0, 1)}[state]
            if not least <= n <= most:
                raise Loss(f"{ident} for {user}: {state}, but there are {n}")
        unknown = found.keys() - {i for i, u in self.copies if u == user}
        if unknown:
            raise Loss(f"{user} has what nobody sent: {unknown}")


def smtp_sender(srv, ledger, name, rng, stop):
    n = 0
    try:
        with smtplib.SMTP("127.0.0.1", srv.smtp, "client.test", timeout=30) as c:
            while not stop.is_set():
                n += 1
                ident = f"{name}-{n}"
                users = rng.sample(USERS, 2 if rng.random() < 0.25 else 1)
                large = rng.random() < 0.08
                data = message(ident, rng, large)
                ledger.note(ident, users, "perhaps")
                refused = c.sendmail("load@elsewhere.test", users, data)
                ledger.note(ident, [u for u in users if u not in refused], "promised")
                ledger.counts["large" if large else "small"] += 1
                ledger.counts["queued" if len(users) > 1 else "direct"] += 1
    except (OSError, smtplib.SMTPException):
        if not ledger.power_fails:
            ledger.counts["broken off early"] += 1


def imap_appender(srv, ledger, name, rng, stop):
    n = 0
    try:
        c = srv.imap(USERS[0])
        while not stop.is_set():
            n += 1
            ident = f"{name}-{n}"
            data = message(ident, rng, rng.random() < 0.1)
            ledger.note(ident, USERS[:1], "perhaps")
            if c.append("INBOX", "(\\Seen)", None, data)[0] == "OK":
                ledger.note(ident, USERS[:1], "promised")
                ledger.counts["appended"] += 1
    except (OSError, imaplib.IMAP4.error):
        pass


def account_maker(srv, ledger, name, stop):
    n = 0
    try:
        while not stop.is_set():
            n += 1
            address = f"{name}-{n}@{server.DOMAIN}"
            ledger.accounts[address] = "perhaps"
            srv.ask("account add", address=address, password=server.PASSWORD)
            ledger.accounts[address] = "promised"
            ledger.counts["accounts"] += 1
            time.sleep(0.1)
    except (OSError, ValueError, IndexError):
        pass


def fetch(srv, user):
    """id -> number of copies, all of them whole."""
    c = srv.imap(user)
    c.select("INBOX")
    found = collections.Counter()
    for part in c.fetch("1:*", "(BODY.PEEK[])")[1]:
        if not isinstance(part, tuple):
            continue
        head, _, body = part[1].partition(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n") if b": " in line)
        ident = fields.get(b"X-Test", b"?").decode()
        found[ident] += 1
        if fields.get(b"X-Digest", b"").decode() != digest(body):
            raise Loss(f"{ident} for {user} is damaged")
    return c, found


class Run:
    """Lives of servers on one disk after another."""

    def __init__(self, binary, seed):
        self.room = server.room()
        self.rng = random.Random(seed)
        self.disk = Disk(self.room)
        self.srv = server.Server(self.room, self.disk.data, binary)
        self.template = self.room / "template"
        self.totals, self.lost = collections.Counter(), collections.Counter()
        self.cuts = 0
        self.srv.start()
        self.srv.ask("domain add", domain=server.DOMAIN)
        for u in USERS:
            self.srv.ask("account add", address=u, password=server.PASSWORD)
        self.srv.stop()
        (self.disk.data / "admin.sock").unlink()
        self.disk.data.rename(self.template)

    def close(self):
        if self.srv.process.poll() is None:
            self.srv.kill()
        shutil.rmtree(self.room)

    def new_disk(self):
        shutil.rmtree(self.disk.data, ignore_errors=True)
        shutil.copytree(self.template, self.disk.data)
        self.ledger = Ledger()

    def start(self):
        self.disk.begin()
        try:
            self.srv.start(self.disk.env())
        except server.DidNotStart as e:
            raise Loss(f"does not start by itself: {e}") from e

    def check(self):
        try:
            self.check_all()
        except (imaplib.IMAP4.error, OSError, server.lab.AdminError) as e:
            log = self.srv.log.read_text(errors="replace")[-2000:]
            raise Loss(f"cannot be read: {e!r}\n{log}") from e

    def check_all(self):
        left = self.srv.wait_queue_empty()
        if left:
            raise Loss(f"the queue does not become empty: {left}")
        for user in USERS:
            c, found = fetch(self.srv, user)
            self.ledger.check(user, found)
            self.settle(c, user, found)
            c.logout()
        here = {row["address"] for row in self.srv.ask("account list")}
        for address, state in self.ledger.accounts.items():
            if state == "promised" and address not in here:
                raise Loss(f"account {address} is gone")
            if address in here:
                self.srv.imap(address).logout()

    def settle(self, c, user, found):
        """What is there now stays; from time to time it is expunged, and then it stays away."""
        expunge = self.rng.random() < 0.3
        for key in [k for k in self.ledger.copies if k[1] == user]:
            if key[0] not in found:
                del self.ledger.copies[key]  # it cannot come any more
            elif expunge:
                self.ledger.copies[key] = "gone"
            else:
                self.ledger.copies[key] = "promised"
        if expunge and found:
            c.store("1:*", "+FLAGS.SILENT", "(\\Deleted)")
            typ, data = c.expunge()
            if typ != "OK":
                raise Loss(f"EXPUNGE: {data}")
            self.totals["expunged"] += len(found)

    def load_and_cut(self):
        stop = threading.Event()
        self.ledger.power_fails = False
        name = f"{self.cuts:04d}"
        threads = [threading.Thread(target=smtp_sender, args=(
            self.srv, self.ledger, f"{name}-{i}", random.Random(self.rng.random()), stop))
            for i in range(SENDERS)]
        threads.append(threading.Thread(target=imap_appender, args=(
            self.srv, self.ledger, f"{name}-a", random.Random(self.rng.random()), stop)))
        threads.append(threading.Thread(target=account_maker, args=(
            self.srv, self.ledger, f"new{name}", stop)))
        for t in threads:
            t.start()
        time.sleep(self.rng.uniform(0.15, 0.9))
        if self.rng.random() < 0.1:  # now and then the server is idle when the power fails
            stop.set()
            time.sleep(0.2)
        self.ledger.power_fails = True
        self.srv.kill()
        stop.set()
        for t in threads:
            t.join()
        self.totals += self.ledger.counts
        self.ledger.counts.clear()
        self.lost.update(self.disk.cut(self.rng.getrandbits(48)))
        self.cuts += 1

    def lives(self, cuts):
        """Raises Loss, or returns after so many cuts that nothing could be found."""
        while self.cuts < cuts:
            if self.cuts % LIVES == 0:
                self.new_disk()
            self.start()
            self.check()
            self.load_and_cut()
            if self.cuts % LIVES == 0 or self.cuts == cuts:
                self.start()
                self.check()
                self.srv.kill()

    def report(self):
        t = self.totals
        return (f"{self.cuts} cuts, {t['small'] + t['large'] + t['appended']} messages answered OK "
                f"({t['direct']} direct, {t['queued']} queued, {t['appended']} appended, "
                f"{t['large']} large), {t['accounts']} accounts made, {t['expunged']} expunged; "
                f"the disks lost {self.lost['lost_writes']} writes, {self.lost['torn_writes']} were "
                f"torn, {self.lost['lost_names']} names lost")


def test_power_cuts():
    run = Run(BINARY, SEED)
    try:
        run.lives(ROUNDS)
        print(run.report())
        assert run.totals["broken off early"] == 0
        assert run.totals["direct"] and run.totals["queued"] and run.totals["large"]
    except Loss:
        print(run.report())
        raise
    finally:
        run.close()


def build_without(sync):
    """The server with one kind of sync taken out, in a build directory beside the real one."""
    real = Path(BINARY).resolve().parent
    build = real.parent / f"{real.name}-skip-{sync}"
    source = Path(__file__).resolve().parents[2]
    if not (build / "build.ninja").exists():
        subprocess.run(["meson", "setup", build, source, f"-Dskip_sync={sync}", "-Dmode=release",
                        "-Dwarning_level=0", "-Doptimization=0", "-Ddebug=false"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", build, "--quiet", "postrider"], check=True)
    return build / "postrider"


@pytest.mark.parametrize("sync", ["commit", "blob", "dir"])
def test_suite_bites(sync):
    run = Run(build_without(sync), SEED)
    try:
        with pytest.raises(Loss) as found:
            run.lives(BITE_WITHIN)
        print(f"without {sync} sync the loss was found at cut {run.cuts}: {found.value}")
        print(run.report())
    finally:
        run.close()
