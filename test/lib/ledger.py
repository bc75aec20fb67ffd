"""What clients attempted and what they were promised, held against what is in the mailboxes.

Messages of a load carry their own name and a digest of their body, so that a copy says what it is and
whether it is whole."""
import collections
import hashlib
import re
import threading

SENDER = "load@elsewhere.test"
SMALL, LARGE = 4 * 1024, 160 * 1024  # bytes; large is more than store.inline, a file of its own
# The copies a mailbox may hold, by what the client was told.
PROMISED, PERHAPS, GONE = "promised", "perhaps", "gone"
COPIES = {PROMISED: (1, 1), PERHAPS: (0, 1), GONE: (0, 0)}


class Loss(Exception):
    """A promise was broken."""


def digest(body):
    return hashlib.sha256(body).hexdigest()[:24]


def message(ident, rng, size, sender=SENDER):
    lines = rng.randrange(1, 2 + size // 40)
    if size >= LARGE:
        lines = size // 77 + rng.randrange(64)
    body = b"".join(b"%032x the quick brown fox jumps over the lazy dog\r\n" % rng.getrandbits(128)
                    for _ in range(lines))
    head = (f"From: <{sender}>\r\nTo: undisclosed-recipients:;\r\nSubject: load\r\n"
            f"Message-ID: <{ident}@elsewhere.test>\r\nX-Test: {ident}\r\n"
            f"X-Digest: {digest(body)}\r\n\r\n")
    return head.encode() + body


def read_mailbox(c, mailbox):
    """[(uid, name of the message, id of our transaction)] of all messages, each of them whole."""
    found = []
    typ, data = c.select(mailbox)
    if typ != "OK":
        raise Loss(f"{mailbox}: {data}")
    for part in c.fetch("1:*", "(UID BODY.PEEK[])")[1]:
        if not isinstance(part, tuple):
            continue
        uid = int(re.search(rb"UID (\d+)", part[0])[1])
        head, _, body = part[1].partition(b"\r\n\r\n")
        field = {name.lower(): re.search(rb"(?mi)^%b: *([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)" % name, head)
                 for name in (b"X-Test", b"X-Digest", b"Received")}
        ident = field[b"x-test"][1].strip().decode() if field[b"x-test"] else "?"
        trace = re.search(rb"\bid (\w+)", field[b"received"][1]) if field[b"received"] else None
        if not field[b"x-digest"] or field[b"x-digest"][1].strip().decode() != digest(body):
            raise Loss(f"{ident}, UID {uid} in {mailbox}, is damaged")
        found.append((uid, ident, trace[1].decode() if trace else None))
    return found


class Ledger:
    def __init__(self):
        self.lock = threading.Lock()
        self.copies = {}  # (name of a message, user) -> PROMISED, PERHAPS or GONE
        self.relayed = {}  # the same for messages that come through a second server
        self.counts = collections.Counter()

    def note(self, ident, users, state, relayed=False):
        with self.lock:
            for u in users:
                (self.relayed if relayed else self.copies)[ident, u] = state

    def names(self, user):
        return [ident for ident, u in self.copies if u == user]

    def check(self, user, found):
        """FOUND: read_mailbox() of all of this user's mailboxes.  Raises Loss."""
        copies = collections.defaultdict(list)
        for _, ident, trace in found:
            copies[ident].append(trace)
        for (ident, u), state in self.copies.items():
            least, most = COPIES[state]
            n = len(copies[ident]) if u == user else least
            if not least <= n <= most:
                raise Loss(f"{ident} for {user}: {state}, but there are {n}")
        for (ident, u), state in self.relayed.items():
            if u == user:
                self.check_relayed(ident, user, state, copies[ident])
        for ident, traces in copies.items():
            if traces and (ident, user) not in self.copies and (ident, user) not in self.relayed:
                raise Loss(f"{user} has {ident}, which nobody sent")

    def check_relayed(self, ident, user, state, traces):
        """A server that did not hear the answer sends again (RFC 5321 4.5.4.1): more copies are
        right as long as each was a transaction of its own."""
        if state == PROMISED and not traces:
            raise Loss(f"{ident} for {user} was relayed and is not there")
        if len(set(traces)) != len(traces):
            raise Loss(f"{ident} for {user}: one transaction made two copies: {traces}")
        if traces:
            self.counts["sent again"] += len(traces) - 1

    def settle(self, user, found, state):
        """What was found is in STATE from now on; what was not cannot come any more."""
        here = {ident for _, ident, _ in found}
        with self.lock:
            for ident in self.names(user):
                if ident in here:
                    self.copies[ident, user] = state
                else:
                    del self.copies[ident, user]
