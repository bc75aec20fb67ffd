"""A load of many clients that survive the death of what they talk to, and ways to kill it."""
import imaplib
import os
import random
import select
import signal
import smtplib
import threading
import time

from ledger import GONE, LARGE, PERHAPS, PROMISED, SMALL, Loss, message, read_mailbox

PATIENCE = 0.05  # seconds between two attempts to connect


def kill_and_wait(pids):
    """SIGKILL to all, first the first; on return none is left."""
    handles = []
    for pid in pids:
        try:
            handles.append(os.pidfd_open(pid))
        except ProcessLookupError:
            pass
    for h in handles:
        try:
            signal.pidfd_send_signal(h, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for h in handles:
        assert select.select([h], [], [], 20)[0], "a killed process did not end"
        os.close(h)


class Load:
    """Threads that send until stop().  Each is a method of a client class below."""

    def __init__(self):
        self.stopping = threading.Event()
        self.threads = []

    def add(self, client, *args):
        t = threading.Thread(target=client, args=(self.stopping, *args), daemon=True)
        self.threads.append(t)
        t.start()

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(60)
            assert not t.is_alive(), "a client hangs"


def smtp_client(stopping, ledger, connect, name, pick, seed, pause=0):
    """Sends over one connection after another.  CONNECT gives an smtplib object that may send; PICK
    gives (sender, recipients, relayed) from a random source.  What breaks before an answer is
    PERHAPS, and is not sent again: a client that would try again makes a new transaction."""
    rng, n, c = random.Random(seed), 0, None
    while not stopping.is_set():
        try:
            c = c or connect()
            n += 1
            ident = f"{name}-{n}"
            sender, users, relayed = pick(rng)
            size = LARGE if rng.random() < 0.08 else SMALL
            data = message(ident, rng, size, sender)
            ledger.note(ident, users, PERHAPS, relayed)
            refused = c.sendmail(sender, users, data)
            ledger.note(ident, [u for u in users if u not in refused], PROMISED, relayed)
            ledger.counts["answered"] += 1
            ledger.counts["large"] += size == LARGE
            ledger.counts["relayed"] += relayed
            time.sleep(pause)
        except (OSError, smtplib.SMTPException):
            ledger.counts["broken off"] += 1
            if c:
                c.close()
            c = None
            time.sleep(PATIENCE)
    if c:
        c.close()


class ImapClient:
    """Moves messages of its own about, and knows after each OK where they must be.

    WORK and KEPT together hold each appended message once; what was expunged is gone."""

    WORK, KEPT, COPIES = "Work", "Kept", "Copies"

    def __init__(self, ledger, connect, user, name, seed):
        self.ledger, self.connect, self.user, self.name = ledger, connect, user, name
        self.rng, self.n = random.Random(seed), 0
        self.boxes, self.deleted = set(), set()

    def __call__(self, stopping):
        c = None
        while not stopping.is_set():
            try:
                if not c:
                    c = self.connect()
                    for box in (self.WORK, self.KEPT, self.COPIES):
                        c.create(box)
                self.turn(c)
            except (OSError, imaplib.IMAP4.error):
                self.ledger.counts["broken off"] += 1
                c = None
                time.sleep(PATIENCE)

    def ok(self, answer):
        if answer[0] != "OK":
            raise imaplib.IMAP4.error(answer)
        return answer[1]

    def turn(self, c):
        self.n += 1
        ident = f"{self.name}-{self.n}"
        data = message(ident, self.rng, LARGE if self.rng.random() < 0.2 else SMALL)
        self.ledger.note(ident, [self.user], PERHAPS)
        self.ok(c.append(self.WORK, None, None, data))
        self.ledger.note(ident, [self.user], PROMISED)
        self.ledger.counts["appended"] += 1
        self.ok(c.select(self.WORK))
        self.ok(c.store("1:*", "+FLAGS", "(\\Flagged)"))
        self.ok(c.copy("*", self.COPIES))
        self.ok(c._simple_command("MOVE", "*", self.KEPT))
        self.ok(c.select(self.KEPT))
        if self.n % 3 == 0:
            self.expunge_last(c)
        self.ok(c.select(self.COPIES))
        self.ok(c.store("1:*", "+FLAGS.SILENT", "(\\Deleted)"))
        self.ok(c.expunge())
        self.change_boxes(c)

    def change_boxes(self, c):
        box = f"{self.name} {self.n}"
        self.ok(c.create(f'"{box}"'))
        self.boxes.add(box)
        if len(self.boxes) > 5:
            old = self.boxes.pop()
            self.ok(c.delete(f'"{old}"'))
            self.deleted.add(old)

    def check(self, c):
        """Holds what is there against what the server said; all messages of WORK and KEPT."""
        found = read_mailbox(c, self.WORK) + read_mailbox(c, self.KEPT)
        self.ledger.check(self.user, found)
        listed = {row.decode().rsplit('"/" ', 1)[1].strip('"') for row in c.list()[1]}
        if not self.boxes <= listed:
            raise Loss(f"{self.user}: mailboxes {self.boxes - listed} are gone")
        if self.deleted & listed:
            raise Loss(f"{self.user}: mailboxes {self.deleted & listed} are back")
        return found

    def expunge_last(self, c):
        part = self.ok(c.fetch("*", "(BODY.PEEK[HEADER.FIELDS (X-TEST)])"))[0]
        ident = part[1].split(b":", 1)[1].strip().decode()
        self.ledger.note(ident, [self.user], PERHAPS)
        self.ok(c.store("*", "+FLAGS", "(\\Deleted)"))
        self.ok(c.expunge())
        self.ledger.note(ident, [self.user], GONE)
