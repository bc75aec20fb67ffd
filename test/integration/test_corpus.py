"""Every message of a large corpus goes from submission to the other host's mailbox and comes back
over IMAP and POP3, byte for byte what was sent after the fields that we add above it.

A bare LF in a file becomes CRLF first, as with any client that sends a file, and a missing last
line end is added; nothing else is changed.  What may be refused then: NUL, bare CR, two From
fields.  The names of the refused are in corpus-refused.txt, which may only shrink."""

import email
import os
import re

import pytest

from conftest import shared_data
from lab import wait_for

LIST = os.path.join(os.path.dirname(__file__), "corpus-refused.txt")
REASONS = r"550 5\.6\.0 .*(NUL|bare CR|two From)"
AT_MOST = 0.05


def normalised(raw):
    raw = re.sub(rb"(?<!\r)\n", b"\r\n", raw)
    return raw if raw.endswith(b"\r\n") else raw + b"\r\n"


@pytest.fixture(scope="module")
def corpus():
    base = shared_data("mime")
    out = {}
    for folder, _, files in os.walk(base):
        for name in sorted(files):
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                out[os.path.relpath(path, base)] = normalised(f.read())
    return out


@pytest.fixture(scope="module")
def sent(alpha, beta, corpus):
    """(address, {name: message}, {name: refusal}); one session, while the queue delivers."""
    to, _ = beta.account()
    taken, refused = {}, {}
    with alpha.submit("alice@alpha.test") as s:
        for name, raw in corpus.items():
            stuffed = (b"." if raw.startswith(b".") else b"") + raw.replace(b"\r\n.", b"\r\n..")
            s.send(f"MAIL FROM:<alice@alpha.test>\r\nRCPT TO:<{to}>\r\nDATA\r\n".encode())
            assert [s.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
            s.send(stuffed + b".\r\n")
            got = s.reply()
            if got.startswith("250"):
                taken[got.split()[-1]] = name
            else:
                refused[name] = got
    wait_for(lambda: not alpha.queue(), 120, "an empty queue")
    return to, {name: corpus[name] for name in taken.values()}, refused


def test_refusals(corpus, sent):
    _, taken, refused = sent
    assert len(corpus) >= 800, "the corpus is not whole"
    for name, why in refused.items():
        assert re.match(REASONS, why), f"{name}: {why}"
    with open(LIST) as f:
        listed = set(f.read().split("\n")) - {""}
    assert set(refused) <= listed, f"newly refused: {sorted(set(refused) - listed)}"
    assert listed <= set(refused), f"take off the list: {sorted(listed - set(refused))}"
    print(f"{len(taken)} of {len(corpus)} taken, {len(refused)} refused")
    assert len(refused) <= AT_MOST * len(corpus)


def check_all(taken, got):
    """Each message of TAKEN ends exactly one of GOT, below a block of our own fields."""
    assert len(got) == len(taken)
    by_size = sorted(got, key=len)
    left = list(by_size)
    for name, raw in sorted(taken.items(), key=lambda x: -len(x[1])):
        found = [g for g in left if g.endswith(raw) and ours(g[:len(g) - len(raw)])]
        assert found, f"{name} did not come back as it was sent"
        left.remove(found[0])
    assert not left


def ours(head):
    """Only Return-Path, Delivered-To, two Received, and what a submission may lack."""
    if not head.endswith(b"\r\n"):
        return False
    names = [n.lower() for n in email.message_from_bytes(head).keys()]
    return names[:4] == ["return-path", "delivered-to", "received", "received"] and \
        set(names[4:]) <= {"from", "date", "message-id"} and len(names) <= 7


def test_back_over_imap(beta, sent):
    to, taken, _ = sent
    check_all(taken, beta.messages(to))


def test_back_over_pop3(beta, sent):
    to, taken, _ = sent
    with beta.imap_raw():
        pass
    c = beta.poplib(to)
    n = c.stat()[0]
    check_all(taken, [b"\r\n".join(c.retr(i)[1]) + b"\r\n" for i in range(1, n + 1)])
    c.quit()


def test_imap_structure_of_everything(beta, sent):
    """Envelope and structure are given for all, and sizes agree with the bytes."""
    to, taken, _ = sent
    with beta.imap_raw(to) as c:
        c.ok("EXAMINE INBOX")
        rows = c.ok("FETCH 1:* (UID RFC822.SIZE ENVELOPE BODYSTRUCTURE)")
        rows = [r for r in rows if b" FETCH " in r]
        assert len(rows) == len(taken)
        sizes = [int(re.search(rb"RFC822\.SIZE (\d+)", r).group(1)) for r in rows]
        assert sizes == [len(m) for m in beta.messages(to)]
