"""The way of a message: submission, MX, mailbox; and everything that may happen to it instead."""

import email
import random
import re
import time
import uuid

import pytest

from conftest import ZONE
from lab import AdminError, Lab, Sink, message, unstuff, wait_for

ALICE = "alice@alpha.test"


def events(rows, name):
    return [r for r in rows if r["event"] == name]


# ------------------------------------------------------------------ the journey

def test_journey_is_told(alpha, beta):
    to, _ = beta.account()
    sent = message(ALICE, to, "journey")
    with alpha.submit(ALICE) as s:
        first = s.deliver(ALICE, to, sent)
    got, = beta.wait_messages(to)
    assert got.endswith(sent)
    rows = wait_for(lambda: events(alpha.trace(first), "rcpt.delivered") and alpha.trace(first))
    for e in ("smtp.mail", "smtp.rcpt", "smtp.accepted", "dns.mx", "dns.address", "relay.connect",
              "relay.tls", "relay.reply", "rcpt.delivered"):
        assert events(rows, e), f"no {e} in {rows}"
    accepted, = events(rows, "smtp.accepted")
    assert accepted["peer"] == "127.0.0.1" and accepted["account"] == ALICE
    assert events(rows, "dns.mx")[0]["secure"] == "yes"
    assert events(rows, "relay.tls")[0]["verified"] == "yes"
    done, = events(rows, "rcpt.delivered")
    assert done["to"] == to and done["remote"] == f"mx.beta.test[{beta.address}]"
    assert re.fullmatch(r"250 2\.0\.0 accepted as \w+", done["reply"])
    second = done["reply"].split()[-1]
    theirs = beta.trace(second)
    assert events(theirs, "smtp.accepted")[0]["peer"] == alpha.address
    assert events(theirs, "store.append")[0]["account"] == to
    assert alpha.queue(to=to) == []

    # the same by address and by Message-ID, on either host
    message_id = email.message_from_bytes(sent)["Message-ID"]
    assert {r["id"] for r in beta.trace(to)} == {second}
    assert {r["id"] for r in beta.trace(message_id)} == {second}
    assert {r["id"] for r in alpha.trace(message_id)} == {first}
    assert first in alpha.cli("trace", first).stdout


def test_trace_fields(lab, alpha, beta):
    to, _ = beta.account()
    with alpha.submit(ALICE, ehlo="my.client.test") as s:
        first = s.deliver(ALICE, to, message(ALICE, to))
    got, = beta.wait_messages(to)
    m = email.message_from_bytes(got)
    assert got.startswith(b"Return-Path: <alice@alpha.test>\r\nDelivered-To: " + to.encode())
    hop2, hop1 = m.get_all("Received")
    assert "from my.client.test ([127.0.0.1])" in hop1 and f"id {first}" in hop1
    assert "with ESMTPSA" in hop1 and f"for <{to}>" in hop1
    assert f"from mx.alpha.test ([{alpha.address}])" in hop2 and "with ESMTPS " in hop2
    for hop in hop1, hop2:
        assert re.search(r"\(using TLSv1\.3 TLS_\w+\)", hop)


def test_several_recipients_are_one_body_each(alpha, beta):
    """Local and remote, twice the same, one unknown: each valid one gets exactly one copy."""
    boxes = [alpha.account()[0], alpha.account()[0], beta.account()[0], beta.account()[0]]
    sent = message(ALICE, boxes[0])
    with alpha.submit(ALICE) as s:
        s.envelope(ALICE, *boxes, boxes[0], boxes[2].upper())
        assert s.cmd("RCPT TO:<nobody@alpha.test>").startswith("550 5.1.1")
        assert s.body(sent).startswith("250")
    for host, box in zip((alpha, alpha, beta, beta), boxes):
        got = host.wait_messages(box)
        assert len(got) == 1 and got[0].endswith(sent)
        assert got[0].count(b"Delivered-To:") == 1
        assert got[0].count(b"for <") == 0, "a header must not tell other recipients"
    alpha.wait_empty_queue()
    assert all(len(h.messages(b)) == 1 for h, b in zip((alpha, alpha, beta, beta), boxes))


# ------------------------------------------------------------------ local names

def test_alias_catch_all_and_subaddress(alpha):
    alpha.ask("domain add", domain="names.test")
    alpha.ask("domain set", domain="names.test", **{"from": "any"})
    a, _ = alpha.account()
    b, _ = alpha.account()
    rest, _ = alpha.account()
    alpha.ask("alias add", address="both@names.test", targets=[a, b])
    alpha.ask("alias add", address="nested@names.test", targets=["both@names.test", a])
    with alpha.smtp_in() as s:
        s.envelope("x@sink.test")
        assert s.cmd("RCPT TO:<unknown@names.test>").startswith("550 5.1.1")
        s.cmd("RSET")
        s.deliver("x@sink.test", "nested@names.test", message("x@sink.test", "nested@names.test"))
        for box in a, b:
            assert len(alpha.wait_messages(box)) == 1
        alpha.ask("domain set", domain="names.test", catch_all=rest)
        s.deliver("x@sink.test", "unknown@names.test", message("x@sink.test", rest, "caught"))
        assert b"caught" in alpha.wait_messages(rest)[0]
        detail = a.replace("@", "+shopping@")
        s.deliver("x@sink.test", detail, message("x@sink.test", a, "detail"))
        got = alpha.wait_messages(a, 2)[1]
        assert got.startswith(f"Return-Path: <x@sink.test>\r\nDelivered-To: {detail}".encode())
        s.deliver("x@sink.test", a.upper(), message("x@sink.test", a, "case"))
        assert len(alpha.wait_messages(a, 3)) == 3
    assert len(alpha.messages(b)) == 1


def test_circle_of_aliases_is_refused(alpha):
    alpha.ask("domain add", domain="circle.test")
    alpha.ask("alias add", address="a@circle.test", targets=["b@circle.test"])
    alpha.ask("alias add", address="b@circle.test", targets=["a@circle.test"])
    with alpha.smtp_in() as s:
        s.envelope("x@sink.test")
        assert s.cmd("RCPT TO:<a@circle.test>").startswith("550 5.4.6")


def test_postmaster_without_domain(alpha):
    before = len(alpha.messages(ALICE))
    with alpha.smtp_in() as s:
        s.deliver("x@sink.test", "Postmaster", message("x@sink.test", "postmaster"))
    assert len(alpha.wait_messages(ALICE, before + 1)) == before + 1


# ------------------------------------------------------------------ what DNS may say

def bounce_of(host, address, n=1):
    """The Nth message of ADDRESS, which must be a delivery report (RFC 3464)."""
    m = email.message_from_bytes(host.wait_messages(address, n)[n - 1])
    assert m["Return-Path"] == "<>"
    assert m.get_content_type() == "multipart/report"
    assert m.get_param("report-type") == "delivery-status"
    assert m["Auto-Submitted"] == "auto-replied"
    human, status, original = m.get_payload()
    blocks = status.get_payload()
    return m, human.get_payload(decode=True).decode(), blocks[0], blocks[1], original


def submit_from_new(host, to, **kw):
    address, _ = host.account()
    sent = message(address, to, kw.pop("subject", "outbound"), **kw)
    with host.submit(address) as s:
        return address, sent, s.deliver(address, to, sent)


@pytest.mark.parametrize("domain, status", [
    ("nowhere.test", "5.1.2"),  # NXDOMAIN (RFC 3463: bad destination system address)
    ("null.test", "5.1.10"),    # null MX (RFC 7505)
    ("broken.test", "5.4.4"),   # an MX without an address
])
def test_dead_names_bounce_at_once(alpha, domain, status):
    to = f"someone@{domain}"
    address, sent, trace = submit_from_new(alpha, to)
    report, human, per_message, per_rcpt, original = bounce_of(alpha, address)
    assert to in human
    assert per_message["Reporting-MTA"] == "dns; mx.alpha.test"
    assert per_rcpt["Final-Recipient"].lower() == f"rfc822; {to}"
    assert per_rcpt["Action"] == "failed"
    assert per_rcpt["Status"] == status
    message_id = email.message_from_bytes(sent)["Message-ID"]
    assert message_id in original.as_string()
    assert events(alpha.trace(trace), "rcpt.failed") or events(alpha.trace(trace), "rcpt.bounced")


def test_unknown_user_of_the_other_host(alpha):
    to = "nobody-there@beta.test"
    address, sent, _ = submit_from_new(alpha, to)
    _, human, _, per_rcpt, _ = bounce_of(alpha, address)
    assert per_rcpt["Status"] == "5.1.1"
    assert per_rcpt["Remote-MTA"] == "dns; mx.beta.test"
    assert per_rcpt["Diagnostic-Code"].startswith("smtp; 550 5.1.1")
    assert "no such user" in human


@pytest.mark.parametrize("domain", ["fail.test", "dead.test"])
def test_passing_trouble_waits(alpha, domain):
    """SERVFAIL, or nobody listens: tried again, not bounced."""
    to = f"someone@{domain}"
    address, _, trace = submit_from_new(alpha, to)
    rcpt = wait_for(lambda: [r for q in alpha.queue(to=to) for r in q["recipients"]
                             if r["attempts"] == 1 and not r["in_delivery"]])[0]
    assert rcpt["status"].startswith("4."), rcpt
    assert events(alpha.trace(trace), "queue.waiting")
    assert alpha.messages(address) == []
    assert alpha.ask("queue drop", to=to) == [{"recipients": 1}]
    assert alpha.queue(to=to) == []


def test_address_record_is_an_implicit_mx(lab, alpha):
    with Sink(lab.address(12), alpha.mx) as sink:
        _, sent, _ = submit_from_new(alpha, "x@implicit.test")
        (sender, rcpts, body), = sink.wait()
    assert rcpts == ["x@implicit.test"] and unstuff(body).endswith(sent)


def test_second_mx_is_tried(lab, alpha):
    with Sink(lab.address(10), alpha.mx) as sink:
        _, sent, trace = submit_from_new(alpha, "x@two.test")
        assert unstuff(sink.wait()[0][2]).endswith(sent)
    wait_for(lambda: events(alpha.trace(trace), "rcpt.delivered"))


def test_answers_are_per_recipient(lab, alpha):
    """One message, three fates: taken, refused, deferred."""
    def rcpt(sink, sock, line):
        sock.sendall(b"250 2.1.5 ok\r\n" if b"good" in line else
                     b"550 5.1.1 no\r\n" if b"bad" in line else b"450 4.2.1 later\r\n")
    address, _ = alpha.account()
    with Sink(lab.address(10), alpha.mx, {"RCPT": rcpt}) as sink:
        with alpha.submit(address) as s:
            s.deliver(address, ["good@sink.test", "bad@sink.test", "later@sink.test"],
                      message(address, "all@sink.test"))
        assert sink.wait()[0][1] == ["good@sink.test", "bad@sink.test", "later@sink.test"]
        _, human, _, per_rcpt, _ = bounce_of(alpha, address)
        assert "bad@sink.test" in per_rcpt["Final-Recipient"] and "good@" not in human
        left = wait_for(lambda: [r for q in alpha.queue(**{"from": address})
                                 for r in q["recipients"] if not r["in_delivery"]])
        assert [r["address"] for r in left] == ["later@sink.test"] and "4.2.1" in left[0]["reply"]
        sink.replies.clear()
        alpha.ask("queue retry", to="later@sink.test")
        assert len(sink.wait(2)) == 2
        alpha.wait_empty_queue()
    assert [m[1] for m in sink.mails][1] == ["later@sink.test"]
    assert len(alpha.messages(address)) == 1


# ------------------------------------------------------------------ loops and reports

def test_no_report_about_a_report(alpha, beta):
    """A report that cannot be delivered ends; nothing about it comes to anybody."""
    before = len(alpha.messages(ALICE))
    with alpha.submit(ALICE) as s:
        trace = s.deliver("", "nobody-at-all@beta.test", message(ALICE, "nobody-at-all@beta.test"))
    wait_for(lambda: events(alpha.trace(trace), "rcpt.failed") or
             events(alpha.trace(trace), "rcpt.bounced"))
    alpha.wait_empty_queue()
    time.sleep(0.3)
    assert len(alpha.messages(ALICE)) == before
    assert not events(alpha.trace(trace), "dsn.sent")


def test_two_hosts_that_forward_to_each_other(alpha, beta):
    """The loop ends by the limit of hops, and the sender hears of it once."""
    name = f"loop{random.getrandbits(32):x}"
    alpha.ask("alias add", address=f"{name}@alpha.test", targets=[f"{name}@beta.test"])
    beta.ask("alias add", address=f"{name}@beta.test", targets=[f"{name}@alpha.test"])
    address, _, _ = submit_from_new(alpha, f"{name}@beta.test")
    report, human, _, per_rcpt, original = bounce_of(alpha, address)
    assert per_rcpt["Status"] == "5.4.6" and "loop" in human
    alpha.wait_empty_queue()
    beta.wait_empty_queue()
    assert len(alpha.messages(address)) == 1
    assert original.as_string().count("Received:") <= 52


def test_a_message_with_too_many_hops(alpha):
    hops = b"".join(b"Received: from a by b; Thu, 01 Jan 2026 12:00:00 +0000\r\n"
                    for _ in range(51))
    with alpha.smtp_in() as s:
        s.envelope("x@sink.test", ALICE)
        assert s.body(hops + message("x@sink.test", ALICE)).startswith("554 5.4.6")


# ------------------------------------------------------------------ no open relay

RELAY = [
    "victim@sink.test", "victim%sink.test@alpha.test", "victim%sink.test",
    "victim%sink.test@[127.0.0.1]", "sink.test!victim@alpha.test", "sink.test!victim",
    '"victim@sink.test"@alpha.test', '"victim%sink.test"@alpha.test', '"victim@sink.test"',
    "@alpha.test:victim@sink.test", "@[127.0.0.1]:victim@sink.test",
    "@alpha.test,@beta.test:victim@sink.test", "victim@[127.0.0.1]", "victim@[IPv6:::1]",
    "victim@sink.test@alpha.test", "victim@sink.test%alpha.test", "alpha.test!victim@sink.test",
    "victim@alpha.test@sink.test", "victim", "victim@sink.test.", "victim@ALPHA.TEST@sink.test",
    "relaytest%sink.test@mx.alpha.test", "victim@localhost", "victim@127.0.0.1",
    "victim%sink.test@localhost", "victim%beta.test%sink.test@alpha.test", "victim@mx.sink.test",
    '"victim@sink.test"@beta.test', "beta.test!sink.test!victim", "victim@sink.test\t",
]
SENDERS = ["x@sink.test", "", ALICE, "postmaster@alpha.test", "x@[127.0.0.1]", "root@localhost"]


def test_no_open_relay(lab, alpha):
    """Whoever is not logged in reaches local mailboxes only, whatever the address looks like."""
    tried = 0
    with Sink(lab.address(10), alpha.mx) as sink:
        for sender in SENDERS:
            with alpha.smtp_in() as s:
                s.want("250", f"MAIL FROM:<{sender}>")
                for rcpt in RELAY:
                    got = s.cmd(f"RCPT TO:<{rcpt}>")
                    assert re.match(r"(550 5\.7\.1|550 5\.1\.\d|501 5\.1\.3|501 5\.5\.\d|"
                                    r"553 5\.1\.\d)", got), f"{sender} -> {rcpt}: {got}"
                    tried += 1
                assert s.cmd("DATA")[:3] in ("554", "503")
        time.sleep(0.2)
        assert sink.connections == 0
    print(f"{tried} forms refused")


def test_relay_needs_a_login_on_submission(alpha, lab):
    for port, tls in ((alpha.submission, None), (alpha.submissions, lab.tls)):
        from lab import Smtp
        with Smtp("127.0.0.1", port, tls=tls) as s:
            assert s.cmd("MAIL FROM:<alice@alpha.test>").startswith("530 5.7.0")
            assert s.cmd("RCPT TO:<victim@sink.test>")[:3] in ("530", "503")
    with Smtp("127.0.0.1", alpha.submission) as s:
        assert "AUTH" not in s.features, "no AUTH before TLS"
    with alpha.smtp_in() as s:
        assert "AUTH" not in s.features
        s.starttls(lab.tls)
        assert "AUTH" not in s.features and s.cmd("AUTH PLAIN AAAA")[:3] in ("502", "503", "500")


# ------------------------------------------------------------------ submission

@pytest.fixture
def owned(alpha):
    """An account that may use its own addresses only, with one alias."""
    address, _ = alpha.account(**{"from": "owned"})
    alias = f"alias-{uuid.uuid4().hex[:8]}@alpha.test"
    alpha.ask("alias add", address=alias, targets=[address])
    return address, alias


def send(host, address, sender, text):
    with host.submit(address) as s:
        s.envelope(sender, address)
        return s.body(text)


@pytest.mark.parametrize("field", [
    "From: Bob <bob@alpha.test>", "From: stranger@elsewhere.test",
    'From: "{me}" <bob@alpha.test>', "From: {me}, bob@alpha.test", "From: bob@alpha.test, {me}",
    "From: friends: bob@alpha.test, {me};", "From: ({me}) bob@alpha.test",
    "From:\r\n =?utf-8?q?{me}?= <bob@alpha.test>",
])
def test_a_foreign_from_is_refused_by_name(alpha, owned, field):
    me, _ = owned
    got = send(alpha, me, me, (field.format(me=me) + "\r\nSubject: x\r\n\r\nx\r\n").encode())
    bad = "stranger@elsewhere.test" if "stranger" in field else "bob@alpha.test"
    assert got == f"550 5.7.1 the From address <{bad}> is not one of yours"


def test_own_from_is_taken(alpha, owned):
    me, alias = owned
    for i, field in enumerate((me, alias, f'"A. B." <{me}>', me.upper(), me.replace("@", "+x@"),
                               f"{me}, {alias}")):
        text = f"From: {field}\r\nSender: {me}\r\nSubject: {i}\r\n\r\nx\r\n".encode()
        assert send(alpha, me, me, text).startswith("250"), field
    with alpha.submit(me) as s:
        s.want("250", f"MAIL FROM:<{alias}>")
        s.want("250", "RSET")
        s.cmd("MAIL FROM:<bob@alpha.test>")  # refused here or, by RFC 5321 3.3, at RCPT
        assert s.cmd("RCPT TO:<bob@alpha.test>").startswith("550 5.7.1")


def test_from_any(alpha, owned):
    me, _ = owned
    text = b"From: Boss <boss@elsewhere.test>\r\nSubject: x\r\n\r\nx\r\n"
    assert send(alpha, me, me, text).startswith("550 5.7.1")
    alpha.ask("account set", address=me, **{"from": "any"})
    assert send(alpha, me, me, text).startswith("250")
    alpha.ask("account set", address=me, **{"from": "default"})
    assert send(alpha, me, me, text).startswith("550 5.7.1")


def test_missing_fields_are_added_above(alpha, beta, owned):
    me, _ = owned
    to, _ = beta.account()
    bodies = [b"Subject: nothing else\r\n\r\nx\r\n",
              b"\r\nno header at all\r\n",
              b"Date: Thu, 01 Jan 2026 12:00:00 +0000\r\nX-Odd :  keep  this \r\n\tas is\r\n\r\n"
              b"trailing space \r\n\r\n\r\n"]
    with alpha.submit(me) as s:
        for text in bodies:
            s.deliver(me, to, text)
    got = sorted(beta.wait_messages(to, 3), key=len)
    for text in bodies:
        mine, = [g for g in got if g.endswith(text)]
        head = mine[:-len(text)]
        added = email.message_from_bytes(head)
        assert added["From"] == me
        assert re.fullmatch(r"<\S+@alpha\.test>", added["Message-ID"])
        assert (added["Date"] is None) == text.startswith(b"Date:")
        assert head.startswith(b"Return-Path:") and head.endswith(b"\r\n")


def test_nothing_is_added_on_the_mx(alpha):
    to, _ = alpha.account()
    text = b"Subject: bare\r\n\r\nx\r\n"
    with alpha.smtp_in() as s:
        s.deliver("x@sink.test", to, text)
    got, = alpha.wait_messages(to)
    assert got.endswith(text)
    assert set(email.message_from_bytes(got).keys()) == \
        {"Return-Path", "Delivered-To", "Received", "Subject"}


@pytest.mark.parametrize("text, why", [
    (b"From: %s\r\nFrom: %s\r\n\r\nx\r\n", "two From"),
    (b"From: %s\r\nX: %s\r\n\r\na\0b\r\n", "NUL"),
    (b"From: %s\r\nX: %s\r\n\r\na\rb\r\n", "bare CR"),
    (b"From: %s\r\nX: %s\r\n\r\na\nb\r\n", "bare LF"),
])
def test_defects_are_refused(alpha, owned, text, why):
    me = owned[0].encode()
    got = send(alpha, owned[0], owned[0], text % (me, me))
    assert got.startswith("550 5.6.0") and why in got
    assert alpha.messages(owned[0]) == []


# ------------------------------------------------------------------ time

def test_retry_schedule_and_expiry():
    """The clock of a lab of its own is turned through five days of retries."""
    with Lab(zone=ZONE) as lab:
        alpha = lab.alpha
        address, sent, trace = submit_from_new(alpha, "later@dead.test")

        def entry():
            rows = [r for q in alpha.queue(to="later@dead.test") for r in q["recipients"]]
            return rows[0] if rows and not rows[0]["in_delivery"] else None

        def after(n):
            return wait_for(lambda: (entry() or {}).get("attempts", 0) >= n and entry(),
                            what=f"attempt {n}")

        def gap(row):
            now = alpha.ask("status")[0]["time"]
            stamp = [time.strptime(t[:19], "%Y-%m-%dT%H:%M:%S") for t in (now, row["next_attempt"])]
            return time.mktime(stamp[1]) - time.mktime(stamp[0])

        want = 300
        for n in range(1, 4):  # 5, 10, 20 minutes, each within 10 % of jitter
            row = after(n)
            assert row["attempts"] == n
            assert want * 0.88 <= gap(row) <= want * 1.12, (n, row)
            lab.clock(f"+{int(want * 0.85)}s")
            time.sleep(0.3)
            assert entry() and entry()["attempts"] == n, "tried before its time"
            lab.clock(f"+{int(want * 0.3)}s")
            want *= 2
        after(4)
        lab.clock("-2h")  # a clock that jumps back repeats nothing
        time.sleep(0.3)
        assert entry()["attempts"] == 4
        lab.clock("+2h")
        for n in range(5, 9):
            lab.clock("+5h")
            assert gap(after(n)) <= 4 * 3600 * 1.12
        _, _, _, per_rcpt, _ = bounce_of(alpha, address)
        assert per_rcpt["Action"] == "delayed"
        lab.clock("+5d")
        _, human, per_message, per_rcpt, _ = bounce_of(alpha, address, 2)
        assert per_rcpt["Action"] == "failed" and per_rcpt["Status"].startswith("4.4.")
        assert "too long" in human
        assert alpha.queue() == []
        lab.clock("+10d")
        time.sleep(0.3)
        assert len(alpha.messages(address)) == 2


def test_a_jump_forward_bounces_nothing_untried():
    with Lab(zone=ZONE) as lab:
        alpha = lab.alpha
        with Sink(lab.address(10), alpha.mx, {"MAIL": b"451 4.3.0 not now\r\n"}) as sink:
            address, sent, _ = submit_from_new(alpha, "x@sink.test")
            wait_for(lambda: [q for q in alpha.queue() if q["recipients"][0]["attempts"]])
            sink.replies.clear()
            lab.clock("+30d")
            assert unstuff(sink.wait()[0][2]).endswith(sent)
            alpha.wait_empty_queue()
        assert alpha.messages(address) == []


def test_unknown_trace(alpha):
    with pytest.raises(AdminError) as e:
        alpha.trace("nobody-ever@wrote.test")
    assert e.value.exit == 67
