"""Milters, played by the test: what they are told, what they say, and what goes wrong."""

import email
import os
import re
import socket
import struct
import time

import pytest

from filters import (ACCEPT, CONTINUE, DISCARD, REJECT, STRANGER, TEMPFAIL, Chain, Milter, add, change,
                     deliver, frame, insert, options, verdicts)
from lab import message, wait_for


@pytest.fixture(scope="module")
def alpha(lab):
    return lab.alpha


@pytest.fixture(scope="module")
def standing(alpha):
    with Milter() as it, Chain(alpha, {"kind": "milter", "address": it.address, "timeout": "1s",
                                       "timeout_message": "1s"}):
        yield it


@pytest.fixture
def m(standing):
    return standing.play()


# ------------------------------------------------------------------ what a milter is told

def test_milter_is_told_everything(alpha, m):
    to, _ = alpha.account()
    sent = message(STRANGER, to, "told", "Hello.\r\n..dots\r\n", X_Folded="one\r\n\ttwo")
    m.play()
    with alpha.smtp_in(ehlo="client.example") as s:
        s.want("250", f"MAIL FROM:<{STRANGER}> SIZE=1000 BODY=8BITMIME")
        s.want("250", f"RCPT TO:<{to}>")
        reply = s.body(sent)
        assert reply.startswith("250"), reply
    assert re.fullmatch("OCHMRTL+NB+EQ?", m.events()), m.events()
    heard = dict((e, d) for e, d in m.heard)
    version, actions, steps = struct.unpack(">III", heard["O"])
    assert version == 6 and actions == 0x1FF
    assert heard["C"].startswith(b"unknown\x004") and heard["C"].endswith(b"127.0.0.1\0")
    assert heard["H"] == b"client.example\0"
    assert heard["M"].split(b"\0") == [b"<x@sink.test>", b"SIZE=1000", b"BODY=8BITMIME", b""]
    assert heard["R"] == b"<%s>\0" % to.encode()
    assert m.body == b"Hello.\r\n..dots\r\n"
    names = [n for n, _ in m.headers()]
    assert names == ["From", "To", "Subject", "Date", "Message-ID", "X-Folded"], names
    assert ("Subject", "told") in m.headers() and ("X-Folded", "one\n\ttwo") in m.headers()
    id = reply.split()[-1]
    assert m.macros["M"]["i"] == id and m.macros["M"]["mail_addr"] == STRANGER
    assert m.macros["C"]["j"] == "alpha.test" or m.macros["C"]["j"].endswith("alpha.test")
    assert m.macros["C"]["daemon_name"] == "inbound"
    assert m.macros["R"]["rcpt_addr"] == to and m.macros["E"]["i"] == id
    got, = alpha.wait_messages(to)
    assert got.endswith(sent)
    row, = verdicts(alpha, id)
    assert row["filter"] == "f0" and row["action"] == "continue"


def test_steps_a_milter_wants_not(alpha, m):
    to, _ = alpha.account()
    quiet = 0x1 | 0x2 | 0x4 | 0x80 | 0x40 | 0x200 | 0x8000 | 0x80000 | 0x100000
    wishes = ((3, "i {rcpt_addr} {client_addr}"), (5, "j"))
    m.play(options(steps=quiet, wishes=wishes), R=None, L=None, B=None)
    assert deliver(alpha, to, message(STRANGER, to, text="a" * 200 + "\r\n")).startswith("250")
    assert re.fullmatch("ORL+B+EQ?", m.events()), m.events()
    assert set(m.macros["R"]) == {"i", "rcpt_addr", "client_addr"} and set(m.macros["E"]) == {"j"}
    assert ("Subject", " test") in m.headers()


def test_large_body_in_chunks_and_skip(alpha, m):
    to, _ = alpha.account()
    text = "".join(f"{n:08d}" + "x" * 70 + "\r\n" for n in range(9000))
    m.play()
    assert deliver(alpha, to, message(STRANGER, to, text=text)).startswith("250")
    assert m.body == text.encode()
    assert all(len(d) <= 65535 for e, d in m.heard if e == "B")
    m.play(options(steps=0x400), B=frame("s"))
    assert deliver(alpha, to, message(STRANGER, to, text=text)).startswith("250")
    assert m.events().count("B") == 1


# ------------------------------------------------------------------ what it says

@pytest.mark.parametrize("stage", "CHMR")
@pytest.mark.parametrize("reply,code", [
    (REJECT, "550 5.7.1"), (TEMPFAIL, "451 4.7.1"),
    (frame("y", b"554 5.7.9 100%% no\0"), "554 5.7.9 100% no"), (frame("y", b"450 later\0"), "450 4.7.1 later")])
def test_refused_at_rcpt(alpha, m, stage, reply, code):
    to, _ = alpha.account()
    m.play(**{stage: reply})
    with alpha.smtp_in() as s:
        s.want("250", f"MAIL FROM:<{STRANGER}>")
        for _ in range(2):
            assert s.cmd(f"RCPT TO:<{to}>").startswith(code)
        s.want("554", "DATA")
    assert "T" not in m.events()


def test_one_recipient_refused(alpha, m):
    a, b, c = (alpha.account()[0] for _ in range(3))
    m.play(R=lambda m, d: REJECT if b.encode() in d else CONTINUE)
    with alpha.smtp_in() as s:
        s.want("250", f"MAIL FROM:<{STRANGER}>")
        s.want("250", f"RCPT TO:<{a}>")
        s.want("550", f"RCPT TO:<{b}>")
        s.want("250", f"RCPT TO:<{c}>")
        assert s.body(message(STRANGER, a)).startswith("250")
    assert m.connections == 1
    assert alpha.wait_messages(a) and alpha.wait_messages(c) and not alpha.messages(b)


@pytest.mark.parametrize("stage", "TLNBE")
def test_refused_after_data(alpha, m, stage):
    to, _ = alpha.account()
    m.play(**{stage: frame("y", b"550 5.7.1 not this\0")})
    assert deliver(alpha, to, message(STRANGER, to)) == "550 5.7.1 not this"
    assert not alpha.messages(to)


@pytest.mark.parametrize("stage", "CMRE")
def test_discarded(alpha, m, stage):
    to, _ = alpha.account()
    m.play(**{stage: DISCARD})
    reply = deliver(alpha, to, message(STRANGER, to))
    assert reply.startswith("250")
    assert not alpha.messages(to) and not alpha.queue(to=to)
    assert [v["action"] for v in verdicts(alpha, reply.split()[-1])] == ["discard"]


def test_accepted_early(alpha, m):
    to, _ = alpha.account()
    m.play(M=ACCEPT, E=REJECT)
    assert deliver(alpha, to, message(STRANGER, to)).startswith("250")
    assert "R" not in m.events() and "E" not in m.events()


def test_second_message_and_reset(alpha, m):
    to, _ = alpha.account()
    m.play()
    with alpha.smtp_in() as s:
        s.envelope(STRANGER, to)
        s.want("250", "RSET")  # core hears of it with what comes next
        for _ in range(2):
            s.envelope(STRANGER, to)
            assert s.body(message(STRANGER, to)).startswith("250")
    assert m.connections == 3 and "AQ" in m.events()
    assert len(alpha.wait_messages(to, 2)) == 2


# ------------------------------------------------------------------ changes

def test_header_changes(alpha, m):
    to, _ = alpha.account()
    sent = message(STRANGER, to, "old", X_One="1", X_Two="2").replace(b"X-Two", b"X-One")
    edits = (add("X-Last", "end\nof it") + insert(0, "X-First", "top") + change(1, "Subject", "new") +
             change(2, "X-One", "") + insert(3, "X-Third", "3") + change(1, "X-Absent", "made"))
    m.play(E=edits + CONTINUE)
    reply = deliver(alpha, to, sent)
    got, = alpha.wait_messages(to)
    mail = email.message_from_bytes(got)
    names = mail.keys()
    at = names.index("X-First")
    assert names[at - 1] == "Received" and "Received" not in names[at:]
    assert names[at:] == ["X-First", "From", "X-Third", "To", "Subject", "Date", "Message-ID", "X-One",
                          "X-Last", "X-Absent"], names
    assert mail["Subject"] == "new" and mail.get_all("X-One") == ["1"]
    assert b"\r\nX-Last: end\r\n\tof it\r\n" in got and mail["X-Absent"] == "made"
    assert mail.get_payload() == "Hello.\r\n"
    told = verdicts(alpha, reply.split()[-1], "filter.change")
    assert [t["what"] for t in told].count("insert header") == 2 and told[2]["name"] == "Subject"


def test_envelope_changed(alpha, m, place):
    a, b = alpha.account()[0], alpha.account()[0]
    edits = (frame("e", b"<boss@sink.test>\0") + frame("-", b"<%s>\0" % a.encode()) +
             frame("+", b"<%s>\0" % b.encode()) + frame("2", b"<far@%s>\0NOTIFY=NEVER\0" %
                                                       place.domain.encode()))
    with place.sink() as sink:
        m.play(E=edits + CONTINUE)
        assert deliver(alpha, a, message(STRANGER, a)).startswith("250")
        (sender, rcpts, _), = sink.wait()
        assert rcpts == [f"far@{place.domain}"]
    got, = alpha.wait_messages(b)
    assert got.startswith(b"Return-Path: <boss@sink.test>") and not alpha.messages(a)


def test_last_recipient_deleted(alpha, m):
    to, _ = alpha.account()
    m.play(E=frame("-", b"<%s>\0" % to.encode()) + CONTINUE)
    assert deliver(alpha, to, message(STRANGER, to)).startswith("250")
    assert not alpha.messages(to) and not alpha.queue(to=to)


def test_quarantined(alpha, m):
    to, _ = alpha.account()
    m.play(E=frame("q", b"looks odd\0") + CONTINUE)
    reply = deliver(alpha, to, message(STRANGER, to))
    assert reply.startswith("250")
    row, = alpha.queue(to=to)
    assert not alpha.messages(to) and "held" in str(row)
    seen, = verdicts(alpha, reply.split()[-1])
    assert seen["action"] == "quarantine" and seen["text"] == "looks odd"
    assert alpha.cli("queue", "release", "--to", to).returncode == 0
    assert alpha.wait_messages(to)


def test_forged_results_go_and_a_filters_stay(alpha, m):
    to, _ = alpha.account()
    with alpha.smtp_in() as s:
        name = s.greeting.split()[1]
    sent = message(STRANGER, to, Authentication_Results=f"{name}; dkim=pass header.d=evil.test")
    m.play(E=insert(0, "Authentication-Results", f"{name}; x-filter=pass") + CONTINUE)
    assert deliver(alpha, to, sent).startswith("250")
    got, = alpha.wait_messages(to)
    assert b"evil.test" not in got and b"x-filter=pass" in got


# ------------------------------------------------------------------ filters that fail

FAILURES = {
    "hangs": dict(E=None),
    "hangs at rcpt": dict(R=None),
    "closes": dict(L=b""),
    "closes at once": dict(options=b""),
    "garbage": dict(N=b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "huge frame": dict(E=struct.pack(">I", 1 << 30) + b"c"),
    "empty frame": dict(E=struct.pack(">I", 0)),
    "half a frame": dict(E=struct.pack(">I", 100) + b"h"),
    "10,000 headers": dict(E=add("X-Spam", "y") * 10000 + CONTINUE),
    "50 MB of headers": dict(E=add("X-Spam", "y" * 60000) * 800 + CONTINUE),
    "shuts down": dict(M=frame("4")),
    "bad name": dict(E=add("X Bad", "y") + CONTINUE),
    "no reply code": dict(E=frame("y", b"250 2.0.0 fine\0")),
    "change too early": dict(N=add("X-A", "b") + CONTINUE),
    "not negotiated": dict(options=options(actions=0), E=add("X-A", "b") + CONTINUE),
    "wants what was not offered": dict(options=options(steps=0x800)),
    "another version": dict(options=options(version=1)),
    "endless progress": dict(E=lambda m, d: [time.sleep(0.2), frame("p") * 10][1]),
    "endless body": dict(E=frame("b", b"x" * 65000 + b"\r\n") * 1000 + CONTINUE),
}


@pytest.mark.parametrize("what", FAILURES)
def test_failing_milter(alpha, m, what):
    to, _ = alpha.account()
    how = dict(FAILURES[what])
    m.play(how.pop("options", options()), **how)
    reply = deliver(alpha, to, message(STRANGER, to))
    assert reply.startswith(("451 4.7.1", "552 5.3.4")), reply
    assert not alpha.messages(to)
    assert "filter.failed" in alpha.log_text().decode()


def test_injection_through_a_header(alpha, m):
    to, _ = alpha.account()
    evil = add("X-A", "b\r\nX-Evil: 1\r\n\r\nbody") + CONTINUE
    m.play(E=evil)
    assert deliver(alpha, to, message(STRANGER, to)).startswith("250")
    got, = alpha.wait_messages(to)
    assert "X-Evil" not in email.message_from_bytes(got) and got.endswith(b"\r\n\r\nHello.\r\n")


def test_new_body_is_checked(alpha, m):
    to, _ = alpha.account()
    m.play(E=frame("b", b"smuggled\n.\n") + CONTINUE)
    assert deliver(alpha, to, message(STRANGER, to)).startswith("550 5.6.0")
    assert not alpha.messages(to)


def test_closes_while_nobody_asks(alpha, m):
    """Between RCPT and the message: the sender hears of it in time, and nobody else does."""
    to, _ = alpha.account()
    m.play()
    pid = alpha.roles()["out"]
    with alpha.smtp_in() as s:
        s.envelope(STRANGER, to)
        for sock in m.socks:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        time.sleep(0.5)
        assert s.body(message(STRANGER, to)).startswith(("250", "451"))
    assert deliver(alpha, to, message(STRANGER, to)).startswith("250")
    assert alpha.roles()["out"] == pid


def test_out_restarted(alpha, m, lab):
    """The conversation is lost in the middle: everything is told anew."""
    to, _ = alpha.account()
    m.play(E=add("X-Seen", "1") + CONTINUE)
    lab.may_die = True
    with alpha.smtp_in() as s:
        s.envelope(STRANGER, to)
        pid = alpha.roles()["out"]
        os.kill(pid, 9)
        wait_for(lambda: alpha.roles().get("out", pid) != pid)
        reply = s.body(message(STRANGER, to))
        assert reply.startswith(("250", "451")), reply
    assert m.connections >= 1
