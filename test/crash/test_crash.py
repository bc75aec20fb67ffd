"""Kills under load: whatever dies, what was answered is there once, and nobody has to repair it.

CRASH_KILLS kills of random roles, or of everything, while mail flows into, through and out of the two
servers of the lab."""
import collections
import os
import random
import smtplib
import time

import pytest

import harness
from lab import AdminError, Lab, wait_for
from ledger import SENDER, Ledger, Loss, read_mailbox

KILLS = int(os.environ.get("CRASH_KILLS", "20"))
SEED = int(os.environ.get("CRASH_SEED", "1"))
KILLS_PER_LIFE = 20  # the last of each is of everything; a role's restarts become slower with each
ROLES = ("front", "core", "out", "keys")
ALPHA_IN, BETA_IN, IMAP_USER = ("alice", "bob"), ("dave", "erin"), "carol"


class Site:
    """The lab, its ledger, and what was seen in its mailboxes."""

    def __init__(self):
        self.lab = Lab().start()
        self.ledger, self.rng = Ledger(), random.Random(SEED)
        self.killed = collections.Counter()
        self.seen = {}  # user -> {uid: name of the message}
        self.imap_client = harness.ImapClient(
            self.ledger, lambda: self.lab.alpha.imaplib(self.user(IMAP_USER)),
            self.user(IMAP_USER), "imap", SEED)

    def user(self, name):
        return f"{name}@{'beta' if name in BETA_IN else 'alpha'}.test"

    # ---- the load

    def to_port_25(self, host, names):
        def pick(rng):
            return SENDER, [self.user(n) for n in rng.sample(names, 1 + (rng.random() < 0.3))], False

        return lambda: smtplib.SMTP("127.0.0.1", getattr(self.lab, host).smtp, "client.test",
                                    timeout=30), pick

    def by_submission(self, names, relayed):
        def pick(rng):
            return self.user("alice"), [self.user(rng.choice(names))], relayed

        return lambda: self.lab.alpha.smtplib(self.user("alice")), pick

    def start_load(self, life):
        load = harness.Load()
        plan = ([self.to_port_25("alpha", ALPHA_IN)] * 7 + [self.to_port_25("beta", BETA_IN)] * 4 +
                [self.by_submission(BETA_IN, True)] * 6 + [self.by_submission(("bob",), False)] * 3)
        for i, (connect, pick) in enumerate(plan):
            load.add(harness.smtp_client, self.ledger, connect, f"{life}-{i}", pick,
                     SEED * 1000003 + life * 1009 + i)
        load.add(self.imap_client)
        return load

    # ---- the kills

    def kill_role(self):
        host, role = self.rng.choice(self.lab.hosts), self.rng.choice(ROLES)
        pid = wait_for(lambda: host.roles().get(role), 60, f"{role} of {host.name}")
        harness.kill_and_wait([pid])
        self.killed[role] += 1

    def kill_all(self):
        pids = [self.lab.process.pid]
        for host in self.lab.hosts:
            pids += [host.pid, *host.roles().values()]
        harness.kill_and_wait(pids)
        self.lab.process.wait()
        self.killed["all"] += 1
        self.lab.start()

    # ---- the check

    def empty_queues(self):
        end = time.monotonic() + 90
        while True:
            rows = []
            for host in self.lab.hosts:
                try:
                    host.ask("queue retry", all=True)
                    rows += host.queue()
                except (OSError, AdminError, IndexError, ValueError):
                    rows.append("no answer")
            if not rows:
                return
            if time.monotonic() > end:
                raise Loss(f"the queues do not become empty: {rows[:3]}")
            time.sleep(0.3)

    def check(self):
        for host in self.lab.hosts:
            wait_for(lambda h=host: set(h.roles()) == set(ROLES), 60, f"the roles of {host.name}")
        self.empty_queues()
        for name in ALPHA_IN + BETA_IN:
            host = self.lab.beta if name in BETA_IN else self.lab.alpha
            c = host.imaplib(self.user(name))
            found = read_mailbox(c, "INBOX")
            c.logout()
            self.ledger.check(self.user(name), found)
            self.check_uids(self.user(name), found)
        self.check_imap_user()

    def check_uids(self, user, found):
        """UIDs stay what they were, and new ones are higher (RFC 9051 2.3.1.1)."""
        now, before = {uid: ident for uid, ident, _ in found}, self.seen.get(user, {})
        for uid, ident in before.items():
            if now.get(uid) != ident:
                raise Loss(f"{user}: UID {uid} was {ident} and is {now.get(uid)}")
        fresh = now.keys() - before.keys()
        if before and fresh and min(fresh) <= max(before):
            raise Loss(f"{user}: UID {min(fresh)} is new, but {max(before)} was there before")
        self.seen[user] = now

    def check_imap_user(self):
        c = self.lab.alpha.imaplib(self.user(IMAP_USER))
        self.imap_client.check(c)
        c.logout()

    def report(self):
        n, k = self.ledger.counts, self.killed
        return (f"{sum(k.values())} kills ({', '.join(f'{r} {k[r]}' for r in sorted(k))}), "
                f"{n['answered']} messages answered 250 ({n['relayed']} relayed, {n['large']} large), "
                f"{n['appended']} appended; {n['broken off']} transactions or connections broken off, "
                f"{n['sent again']} relayed copies sent again")

    def close(self):
        if self.lab.process.poll() is None:
            self.lab.process.stdin.close()
            self.lab.process.wait(60)
        self.lab.remove()


@pytest.fixture
def site():
    s = Site()
    yield s
    s.close()


def test_kills(site):
    done = life = 0
    try:
        while done < KILLS:
            load = site.start_load(life)
            kills = min(KILLS_PER_LIFE, KILLS - done)
            for i in range(kills):
                time.sleep(site.rng.uniform(0.2, 0.8))
                if i == kills - 1:
                    site.kill_all()
                    time.sleep(1)  # mail flows again
                else:
                    site.kill_role()
            load.stop()
            site.check()
            done, life = done + kills, life + 1
    finally:
        print(site.report())
    n = site.ledger.counts
    assert n["relayed"] and n["large"] and n["appended"] and n["broken off"]
