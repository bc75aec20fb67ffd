"""Power cuts under load: what was answered `250` (or OK) is there afterwards, once.

A life of the server: start on the disk that the last cut left, check the mailboxes against what its
clients were told, then load from many clients, and at a random moment the power fails.  Everything
is drawn from POWERCUT_SEED, apart from the moment as the scheduler makes it.

The suite must bite: with any one sync taken out of the server it has to find a loss soon.
"""
import collections
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
from ledger import GONE, LARGE, PERHAPS, PROMISED, SENDER, SMALL, Ledger, Loss, message, read_mailbox
from powercut import Disk

ROUNDS = int(os.environ.get("POWERCUT_ROUNDS", "50"))
SEED = int(os.environ.get("POWERCUT_SEED", "1"))
BINARY = os.environ["POSTRIDER"]
BITE_WITHIN = 40  # cuts
LIVES = 10  # of one disk, then a new one is taken
USERS = [f"{name}@{server.DOMAIN}" for name in ("ann", "ben", "cleo", "dan")]
SENDERS = 8


def smtp_sender(srv, ledger, name, rng, stop):
    n = 0
    try:
        with smtplib.SMTP("127.0.0.1", srv.smtp, "client.test", timeout=30) as c:
            while not stop.is_set():
                n += 1
                ident = f"{name}-{n}"
                users = rng.sample(USERS, 2 if rng.random() < 0.25 else 1)
                size = LARGE if rng.random() < 0.08 else SMALL
                data = message(ident, rng, size)
                ledger.note(ident, users, PERHAPS)
                refused = c.sendmail(SENDER, users, data)
                ledger.note(ident, [u for u in users if u not in refused], PROMISED)
                ledger.counts["large" if size == LARGE else "small"] += 1
                ledger.counts["queued" if len(users) > 1 else "direct"] += 1
    except (OSError, smtplib.SMTPException):
        if not ledger.counts["power fails"]:
            ledger.counts["broken off early"] += 1


def imap_appender(srv, ledger, name, rng, stop):
    n = 0
    try:
        c = srv.imap(USERS[0])
        while not stop.is_set():
            n += 1
            ident = f"{name}-{n}"
            data = message(ident, rng, LARGE if rng.random() < 0.1 else SMALL)
            ledger.note(ident, USERS[:1], PERHAPS)
            if c.append("INBOX", "(\\Seen)", None, data)[0] == "OK":
                ledger.note(ident, USERS[:1], PROMISED)
                ledger.counts["appended"] += 1
    except (OSError, imaplib.IMAP4.error):
        pass


def account_maker(srv, ledger, accounts, name, stop):
    n = 0
    try:
        while not stop.is_set():
            n += 1
            address = f"{name}-{n}@{server.DOMAIN}"
            accounts[address] = PERHAPS
            srv.ask("account add", address=address, password=server.PASSWORD)
            accounts[address] = PROMISED
            ledger.counts["accounts"] += 1
            time.sleep(0.1)
    except (OSError, ValueError, IndexError):
        pass


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
        for name in ("admin.sock", "submit.sock"):
            (self.disk.data / name).unlink()
        self.disk.data.rename(self.template)

    def close(self):
        if self.srv.process.poll() is None:
            self.srv.kill()
        shutil.rmtree(self.room)

    def new_disk(self):
        shutil.rmtree(self.disk.data, ignore_errors=True)
        shutil.copytree(self.template, self.disk.data, ignore=shutil.ignore_patterns("*.sock"))
        self.ledger, self.accounts = Ledger(), {}

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
            log = self.srv.log.read_text(errors="replace")[-400:]
            raise Loss(f"cannot be read: {e!r}\n{log}") from e

    def check_all(self):
        left = self.srv.wait_queue_empty()
        if left:
            raise Loss(f"the queue does not become empty: {left}")
        for user in USERS:
            c = self.srv.imap(user)
            found = read_mailbox(c, "INBOX")
            self.ledger.check(user, found)
            self.settle(c, user, found)
            c.logout()
        here = {row["address"] for row in self.srv.ask("account list")}
        for address, state in self.accounts.items():
            if state == PROMISED and address not in here:
                raise Loss(f"account {address} is gone")
            if address in here:
                self.srv.imap(address).logout()

    def settle(self, c, user, found):
        """What is there now stays; from time to time it is expunged, and then it stays away."""
        expunge = self.rng.random() < 0.3
        self.ledger.settle(user, found, GONE if expunge else PROMISED)
        if expunge and found:
            c.store("1:*", "+FLAGS.SILENT", "(\\Deleted)")
            typ, data = c.expunge()
            if typ != "OK":
                raise Loss(f"EXPUNGE: {data}")
            self.totals["expunged"] += len(found)

    def load_and_cut(self):
        stop = threading.Event()
        name = f"{self.cuts:04d}"
        threads = [threading.Thread(target=smtp_sender, args=(
            self.srv, self.ledger, f"{name}-{i}", random.Random(self.rng.random()), stop))
            for i in range(SENDERS)]
        threads.append(threading.Thread(target=imap_appender, args=(
            self.srv, self.ledger, f"{name}-a", random.Random(self.rng.random()), stop)))
        threads.append(threading.Thread(target=account_maker, args=(
            self.srv, self.ledger, self.accounts, f"new{name}", stop)))
        for t in threads:
            t.start()
        time.sleep(self.rng.uniform(0.15, 0.9))
        if self.rng.random() < 0.1:  # now and then the server is idle when the power fails
            stop.set()
            time.sleep(0.2)
        self.ledger.counts["power fails"] = 1
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
