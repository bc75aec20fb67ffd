"""Mail between Postrider and other people's servers: nothing lost, doubled or changed, and TLS on every way."""

import collections
import os
import re
import subprocess
import threading

import peers
import pytest
import shapes
from conftest import PEERS
from lab import Smtp, message, wait_for

TRACE = re.compile(rb"(?:(?:Return-Path|Received|Delivered-To|X-Original-To|Envelope-to|Delivery-date)"
                   rb":[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)*\Z", re.I)


def split_trace(got):
    """(number, what was put in front, the message from X-Number on)."""
    at = got.index(b"X-Number: ")
    assert TRACE.match(got[:at]), f"more than trace fields in front: {got[:at]!r}"
    return int(got[at + 10:got.index(b"\r\n", at)]), got[:at], got[at:]


def inject(peer, sender, to, messages, parameters=""):
    """Hands MESSAGES to the peer in one session, byte for byte."""
    with Smtp(peer.address, peer.port) as s:
        for m in messages:
            s.want("250", f"MAIL FROM:<{sender}>{parameters}")
            s.want("250", f"RCPT TO:<{to}>")
            got = s.body(m)
            assert got.startswith("250"), f"{got} to {m[:300]!r}"


def submit(host, user, to, m):
    with host.submit(user) as s:
        return s.deliver(user, to, m)


# ---------------------------------------------------------------- one hop, both ways


@pytest.mark.parametrize("name, box", [("postfix", "paula"), ("exim", "ed"), ("opensmtpd", "otto")])
def test_postrider_to_peer(name, box, lab, request):
    peer = request.getfixturevalue(name)
    m = shapes.make(3, "alice@alpha.test", f"{box}@{name}.test")
    key = submit(lab.alpha, "alice@alpha.test", f"{box}@{name}.test", m)
    got = wait_for(lambda: peer.maildir(box), what=f"mail in {name}'s mailbox\n{peer.log_text()}")
    assert len(got) == 1
    number, trace, kept = split_trace(got[0].replace(b"\n", b"\r\n"))
    assert kept == m
    assert key.encode() in trace, "our Received field with the id"
    wait_for(lambda: "rcpt.delivered" in [r["event"] for r in lab.alpha.trace(key)], what="the journey's end")
    rows = lab.alpha.trace(key)
    tls = [r["tls"] for r in rows if r["event"] == "relay.tls"]
    if name == "opensmtpd" and not tls:  # what it offers it cannot do, and nobody asked for more than an attempt
        assert [r["result"] for r in rows if r["event"] == "relay.connect"] == ["tls", "ok"], rows
    else:
        assert tls and tls[0].startswith("TLSv1.3"), tls


@pytest.mark.parametrize("name, user", [("postfix", "bob"), ("exim", "carol"), ("opensmtpd", "alice")])
def test_peer_to_postrider(name, user, lab, request):
    peer = request.getfixturevalue(name)
    to = f"{user}@alpha.test"
    m = shapes.make(3, f"x@{name}.test", to)
    inject(peer, f"x@{name}.test", to, [m])
    got = lab.alpha.wait_messages(to)
    assert len(got) == 1
    number, trace, kept = split_trace(got[0])
    assert kept == m
    assert f"Return-Path: <x@{name}.test>".encode() in trace
    # the peer proved nothing, but checked our certificate against the lab's CA; it says so or refuses to send
    assert b"with ESMTPS" in trace or b"with UTF8SMTPS" in trace


def test_split_delivery(lab, postfix):
    """While a domain moves from Postfix to us: each box is served where it is."""
    way = f"smtp:[{postfix.address}]:{postfix.port}"
    lab.alpha.ask("domain add", domain="postfix.test", unknown_to=way)
    lab.alpha.ask("account add", address="moved@postfix.test", password="moved-with-us")
    lab.passwords["moved@postfix.test"] = "moved-with-us"
    before = len(postfix.maildir("paula"))
    m = message("ann@far.test", "both@postfix.test")
    with lab.alpha.smtp_in() as s:
        s.deliver("ann@far.test", ["moved@postfix.test", "paula@postfix.test"], m)
        s.deliver("ann@far.test", "nobody@postfix.test", m)  # Postfix says so, and nobody takes a bounce there
    got = wait_for(lambda: postfix.maildir("paula")[before:], what=f"mail at the old host\n{postfix.log_text()}")
    assert got[0].startswith(b"Return-Path: <ann@far.test>") and len(got) == 1
    assert got[0].replace(b"\n", b"\r\n").endswith(m)
    kept, = lab.alpha.wait_messages("moved@postfix.test")
    assert kept.endswith(m)
    wait_for(lambda: not lab.alpha.queue(to="nobody@postfix.test"))
    lab.alpha.ask("account rm", address="moved@postfix.test")
    lab.alpha.ask("domain rm", domain="postfix.test")


def test_refusals_come_back(lab, postfix):
    """An unknown user is refused in the session: the peer makes the bounce, and it reaches our user."""
    before = len(lab.alpha.messages("alice@alpha.test"))
    m = message("alice@alpha.test", "nobody-here@beta.test")
    inject(postfix, "alice@alpha.test", "nobody-here@beta.test", [m])
    got = lab.alpha.wait_messages("alice@alpha.test", before + 1)[-1]
    assert b"multipart/report" in got and b"nobody-here@beta.test" in got


def test_peer_refuses(lab, exim):
    """And the other way round: Exim knows no such user, so Postrider tells the sender."""
    before = len(lab.alpha.messages("bob@alpha.test"))
    submit(lab.alpha, "bob@alpha.test", "nobody-here@exim.test",
           message("bob@alpha.test", "nobody-here@exim.test"))
    got = lab.alpha.wait_messages("bob@alpha.test", before + 1)[-1]
    assert b"multipart/report" in got and b"nobody-here@exim.test" in got


# ---------------------------------------------------------------- a chain


MANY = 20  # further boxes at the end of the chain
WAVE = 250  # messages on their way at a time: Exim has a process for each


def inject_all(peer, sender, jobs, sessions):
    """JOBS, (recipients, message), over several sessions at once."""
    errors = []

    def one(first):
        try:
            with Smtp(peer.address, peer.port) as s:
                for to, m in jobs[first::sessions]:
                    s.want("250", f"MAIL FROM:<{sender}> BODY=8BITMIME")
                    for address in to:
                        s.want("250", f"RCPT TO:<{address}>")
                    got = s.body(m)
                    assert got.startswith("250"), f"{got} to {m[:300]!r}"
        except Exception as e:  # noqa: BLE001 (reported by the test's own thread)
            errors.append(e)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(sessions)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors


def test_chain(lab, postfix, exim):
    """Postfix -> Postrider (alias) -> Exim (redirect) -> Postrider: messages of all shapes, some of them for many
    recipients; each box gets each of its messages once, byte for byte."""
    n = 10000 if os.environ.get("POSTRIDER_LONG") else 300
    first = {"to-exim@alpha.test": "dave@beta.test"}  # where what is sent to one address ends
    for i in range(MANY):
        box, _ = lab.beta.account(f"many{i}")
        lab.alpha.ask("alias add", address=f"to-many{i}@alpha.test", targets=[f"many{i}@exim.test"])
        first[f"to-many{i}@alpha.test"] = box
    many = list(first)[1:]

    def arrived():
        return sum(r["messages"] for r in lab.beta.ask("account list") if r["address"] in first.values())

    jobs, expected = [], collections.defaultdict(dict)
    for i in range(n):
        m = shapes.make(i, "sender@postfix.test", "to-exim@alpha.test")
        to = many[i % 7:] if i % 10 == 3 else ["to-exim@alpha.test"]
        jobs.append((to, m))
        for address in to:
            expected[first[address]][i] = m
    copies = arrived()
    for at in range(0, n, WAVE):
        inject_all(postfix, "sender@postfix.test", jobs[at:at + WAVE], 4)
        copies += sum(len(to) for to, _ in jobs[at:at + WAVE])
        wait_for(lambda: arrived() >= copies, timeout=120, what=f"{copies} copies")
    for box, sent in expected.items():
        seen = set()
        for m in lab.beta.messages(box):
            number, trace, kept = split_trace(m)
            assert number not in seen, f"message {number} came twice to {box}"
            seen.add(number)
            assert kept == sent[number], f"message {number} changed: {first_difference(sent[number], kept)}"
            assert shapes.whole(kept)
            assert trace.count(b"Received: ") >= 4, trace
        assert seen == set(sent)
    lab.alpha.wait_empty_queue()


def first_difference(a, b):
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"at {at}: {a[max(0, at - 40):at + 40]!r} became {b[max(0, at - 40):at + 40]!r}"


def test_utf8_addresses(lab, postfix, exim):
    """RFC 6531 through all three servers."""
    m = shapes.make(3, "jürgen@postfix.test", "to-exim@alpha.test")
    m = m.replace(b"X-Number: 3\r\n", b"X-Number: 1000\r\n")
    before = len(lab.beta.messages("dave@beta.test"))
    inject(postfix, "jürgen@postfix.test", "to-exim@alpha.test", [m], " BODY=8BITMIME SMTPUTF8")
    got = lab.beta.wait_messages("dave@beta.test", before + 1)[before:]
    assert len(got) == 1
    number, trace, kept = split_trace(got[0])
    assert kept == m
    # alpha forwards in its own name (SRS)
    assert re.search("Return-Path: <SRS0=[^=]+=[^=]+=postfix.test=jürgen@mx.alpha.test>\r\n".encode(), trace), trace


# ---------------------------------------------------------------- tools that come with Postfix


def test_load(lab, postfix):
    """1,000 messages over 20 sessions: each is there once."""
    n = 1000
    to, _ = lab.beta.account("load")
    done = postfix.run("smtp-source", "-d", "-s", "20", "-m", str(n), "-l", "4096", "-f", "x@postfix.test", "-t", to,
                       f"{lab.beta.address}:{lab.beta.mx}")
    assert done.returncode == 0, done.stdout
    got = lab.beta.wait_messages(to, n)
    assert len(got) == n
    ids = {re.search(rb"\r\nMessage-ID: *(\S+)", m, re.I)[1] for m in got}
    assert len(ids) == n


def test_tls_as_postfix_sees_it(lab, postfix):
    """Certificate, name and version, judged by posttls-finger."""
    done = postfix.run("posttls-finger", "-F", "/etc/ca.pem", "-l", "secure", "-t", "20", "-c",
                       f"[{lab.alpha.address}]:{lab.alpha.mx}", lab.alpha.name)
    assert f"Verified TLS connection established to {lab.alpha.address}" in done.stdout, done.stdout
    assert "TLSv1.3" in done.stdout


@pytest.mark.parametrize("switches, status", [
    ([], "2"), (["-e"], "2"), (["-8"], "2"), (["-p"], "2"),  # no ESMTP, no 8BITMIME, no PIPELINING
    (["-f", "ehlo"], "2"), (["-f", "mail"], "5"), (["-f", "rcpt"], "5"), (["-f", "."], "5"),
    (["-r", "ehlo"], "4"), (["-r", "mail"], "4"), (["-r", "rcpt"], "4"), (["-r", "data"], "4"), (["-r", "."], "4"),
    (["-q", "connect"], "4"), (["-q", "ehlo"], "4"), (["-q", "mail"], "4"), (["-q", "data"], "4"),
    (["-q", "."], "4"), (["-Q", "rcpt"], "4"), (["-Q", "."], "4"),
], ids=" ".join)
def test_what_smtp_sink_does(lab, postfix, switches, status):
    """Postfix's own server for tests, with its faults: delivered, returned to the sender, or kept for later."""
    host, to = lab.alpha, "someone@sink.test"
    sender, _ = host.account()
    sink = subprocess.Popen(["chroot", postfix.root, "smtp-sink", "-u", "nobody", *switches,
                             f"{lab.address(PEERS['sink'])}:{host.mx}", "100"])
    try:
        peers.wait_port(lab.address(PEERS["sink"]), host.mx, lambda: sink.poll() is None)
        key = submit(host, sender, to, message(sender, to))
        if status == "4":
            row = wait_for(lambda: [r for q in host.queue(id=key) for r in q["recipients"] if r["status"]])[0]
            host.ask("queue drop", id=key)
        else:
            end = "rcpt.delivered" if status == "2" else "rcpt.failed"
            row = wait_for(lambda: [r for r in host.trace(key) if r["event"] == end], what=end)[0]
    finally:
        sink.terminate()
        sink.wait()
    assert row["status"].startswith(status), row
    assert len(host.messages(sender)) == (status == "5")
