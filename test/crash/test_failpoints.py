"""A kill at each named place: core dies there, is started again, and nothing is lost or doubled."""
import os
import random
import re
import shutil
import smtplib
import time
from pathlib import Path

import pytest

import harness
import server
from ledger import GONE, SENDER, Ledger, Loss, read_mailbox

SOURCE = Path(__file__).resolve().parents[2] / "src"
POINTS = sorted({name for path in SOURCE.rglob("*.c")
                 for name in re.findall(r'FAILPOINT\("([^"]+)"\)', path.read_text())})
# What this load does not reach, and why; unit tests or test_poison.py kill there.
UNREACHED = {"store.outbox.after_commit": "no delivery causes anything outside its account yet",
             "mail.authenticate": "the mail of this machine's own programs is not verified",
             "mail.filters": "no filter is configured"}
INBOXES = [f"{n}@{server.DOMAIN}" for n in ("ann", "ben")]
IMAP_USER = f"cleo@{server.DOMAIN}"
REACHED_WITHIN = 30  # seconds; some places are passed once in five
PAUSE = 0.01  # seconds between two messages of a client


class Site:
    def __init__(self, room):
        self.room = room
        self.srv = server.Server(room, room / "data", os.environ["POSTRIDER"])
        self.ledger, self.lives = Ledger(), 0
        self.srv.start()
        self.srv.ask("domain add", domain=server.DOMAIN)
        for u in INBOXES + [IMAP_USER]:
            self.srv.ask("account add", address=u, password=server.PASSWORD)
        self.srv.stop()

    def start_load(self, client):
        self.lives += 1
        load = harness.Load()
        for i in range(4):
            load.add(harness.smtp_client, self.ledger,
                     lambda: smtplib.SMTP("127.0.0.1", self.srv.smtp, "client.test", timeout=30),
                     f"{self.lives}-{i}",
                     lambda rng: (SENDER, rng.sample(INBOXES, rng.randint(1, 2)), False),
                     self.lives * 10 + i, PAUSE)
        load.add(client)
        load.add(self.turn_clock)
        return load

    def turn_clock(self, stopping):
        """Back and forth; core notes the offset in a file."""
        while not stopping.is_set():
            for by in ("+1s", "-1s"):
                try:
                    self.srv.ask("clock", by=by)
                except (OSError, ValueError, IndexError, server.lab.AdminError):
                    pass
                time.sleep(0.1)

    def check(self, client):
        left = self.srv.wait_queue_empty()
        if left:
            raise Loss(f"the queue does not become empty: {left}")
        for user in INBOXES:
            c = self.srv.imap(user)
            found = read_mailbox(c, "INBOX")
            self.ledger.check(user, found)
            self.clear(c, user, found, "INBOX")
        c = self.srv.imap(IMAP_USER)
        self.clear(c, IMAP_USER, client.check(c), client.WORK, client.KEPT)

    def clear(self, c, user, found, *boxes):
        """Empties what was checked: the next check is about the next kill."""
        for box in boxes:
            c.select(box)
            c.store("1:*", "+FLAGS.SILENT", "(\\Deleted)")
            c.expunge()
        self.ledger.settle(user, found, GONE)
        c.logout()


@pytest.fixture(scope="module")
def site():
    room = server.room()
    room.chmod(0o711)
    s = Site(room)
    yield s
    if s.srv.process.poll() is None:
        s.srv.kill()
    shutil.rmtree(room)


def test_points_are_known():
    """Every place named in the tables of store.h and queue.h exists, and the list of exceptions holds."""
    named = {name for header in ("store/store.h", "queue/queue.h")
             for name in re.findall(r"\b(?:store|queue)(?:\.[a-z_]+){2}\b",
                                    (SOURCE / header).read_text())}
    assert named <= set(POINTS)
    assert UNREACHED.keys() <= set(POINTS)
    print(f"{len(POINTS)} failpoints, {len(UNREACHED)} of them left to unit tests")


@pytest.mark.parametrize("point", [p for p in POINTS if p not in UNREACHED])
def test_failpoint(site, point):
    count = random.Random(point).randint(1, 3)
    once = site.room / f"once-{point}"
    client = harness.ImapClient(site.ledger, lambda: site.srv.imap(IMAP_USER), IMAP_USER,
                                f"imap{site.lives}", site.lives)
    site.srv.start(dict(os.environ, POSTRIDER_FAILPOINT=f"{point}:{count}",
                        POSTRIDER_FAILPOINT_ONCE=str(once)))
    try:
        load = site.start_load(client)
        end = time.monotonic() + REACHED_WITHIN
        while not once.exists() and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.5)
        load.stop()
        assert once.exists(), f"{point} was not passed {count} times"
        site.check(client)
        site.srv.stop()
    finally:
        if site.srv.process.poll() is None:
            site.srv.kill()
    print(f"{point}:{count}: {site.ledger.counts['answered']} messages answered so far, "
          f"{site.ledger.counts['broken off']} broken off")
