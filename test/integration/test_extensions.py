"""SMTP's extensions from the outside: what is offered is kept, and LMTP, ETRN and XCLIENT are for those who may."""

import email
import os
import smtplib

import pytest

from conftest import ZONE
from lab import Lab, Smtp, message, run, wait_for

X = "x@sink.test"


def entry(host, to):
    """What waits for TO."""
    return wait_for(lambda: host.queue(to=to), what=f"mail for {to}")[0]


def offers(s):
    return s.cmd("EHLO client.test")


def test_what_is_offered(alpha):
    """To strangers in clear, to users with TLS."""
    address, _ = alpha.account()
    with alpha.smtp_in() as s:
        mx = offers(s)
    with alpha.submit(address) as s:
        submission = offers(s)
    for keyword in ("BINARYMIME", "CHUNKING", "DELIVERBY 60", "MT-PRIORITY", "LIMITS RCPTMAX=1000", "PRDR", "DSN"):
        assert keyword in mx and keyword in submission, keyword
    for keyword in ("REQUIRETLS", "FUTURERELEASE 2592000 2"):
        assert keyword not in mx and keyword in submission, keyword
    for keyword in ("XCLIENT", "ETRN", "LHLO"):
        assert keyword not in mx and keyword not in submission, keyword
    with alpha.smtp_in() as s:
        s.want("555 5.5.4", f"MAIL FROM:<{X}> REQUIRETLS")
        s.want("555 5.5.4", f"MAIL FROM:<{X}> HOLDFOR=60")
        s.want("250 2.3.6 0", f"MAIL FROM:<{X}> MT-PRIORITY=9")


def test_binary(alpha):
    """All octets there are come back from the mailbox, and the mailbox holds no NUL."""
    to, _ = alpha.account()
    octets = bytes(range(256)) * 700 + b"\r\n--bx\r\n"
    m = (message(X, to, "binary").split(b"\r\n\r\n")[0] + b"\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;"
         b" boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n--b\r\nContent-Type: application/octet-stream\r\n"
         b"Content-Transfer-Encoding: binary\r\n\r\n" + octets + b"\r\n--b--\r\n")
    with alpha.smtp_in() as s:
        for parameter, verdict in ((" BODY=BINARYMIME", "250"), ("", "550 5.6.0")):
            s.want("250", f"MAIL FROM:<{X}>{parameter}")
            s.want("250", f"RCPT TO:<{to}>")
            if parameter:
                s.want("503", "DATA")
            s.send(b"BDAT 1000\r\n" + m[:1000])
            assert s.reply().startswith("250")
            s.send(b"BDAT %d LAST\r\n" % (len(m) - 1000) + m[1000:])
            got = s.reply()
            assert got.startswith(verdict), got
    (kept,) = alpha.messages(to)
    assert b"\0" not in kept
    (part,) = email.message_from_bytes(kept).get_payload()
    assert part["Content-Transfer-Encoding"] == "base64"
    assert part.get_payload(decode=True) == octets


def test_terms_are_kept():
    """What MAIL asks for stands in the queue, through a restart; what is held leaves when its time has come."""
    with Lab(zone=ZONE) as lab:
        alpha = lab.alpha
        address, _ = alpha.account()
        to, held = "late@fail.test", "dave@beta.test"
        with alpha.submit(address) as s:
            s.want("250 2.1.0", f"MAIL FROM:<{address}> MT-PRIORITY=4 REQUIRETLS BY=86400;R")
            s.want("250", f"RCPT TO:<{to}>")
            assert s.body(message(address, to)).startswith("250")
            s.want("250 2.1.0", f"MAIL FROM:<{address}> HOLDFOR=7200")
            s.want("250", f"RCPT TO:<{held}>")
            assert s.body(message(address, held)).startswith("250")
            s.want("250", f"MAIL FROM:<{address}> HOLDFOR=99999999")
            s.want("501 5.5.4", f"RCPT TO:<{to}>")
        lab.stop()
        lab.start()
        alpha = lab.alpha
        row = entry(alpha, to)
        assert row["priority"] == 4 and row["require_tls"] and row["deliver_by"] > row["accepted"]
        row = entry(alpha, held)
        assert row["held_until"] == row["recipients"][0]["next_attempt"] and row["recipients"][0]["attempts"] == 0
        assert "not before" in alpha.cli("queue", "list").stdout
        lab.clock("1h")
        assert entry(alpha, held)["recipients"][0]["attempts"] == 0
        lab.clock("3h")
        assert len(lab.beta.wait_messages(held)) == 1


def test_prdr(alpha):
    one, two = alpha.account()[0], alpha.account()[0]
    with alpha.smtp_in() as s:
        s.want("250", f"MAIL FROM:<{X}> PRDR")
        s.want("250", f"RCPT TO:<{one}>")
        s.want("250", f"RCPT TO:<{two}>")
        assert s.body(message(X, one)).startswith("353")
        for _ in range(3):
            assert s.reply().startswith("250 2.0.0")
        s.want("250", "NOOP")
    assert len(alpha.messages(one)) == len(alpha.messages(two)) == 1


def test_lmtp(alpha):
    """Python's client, and swaks: one answer per recipient, mailboxes here only."""
    one, two = alpha.account()[0], alpha.account()[0]
    with smtplib.LMTP("127.0.0.1", alpha.lmtp) as s:
        # it reads one answer only, so one recipient can be good
        refused = s.sendmail(X, [one, f"nobody@{alpha.domain}", X], message(X, one))
        assert {k: v[0] for k, v in refused.items()} == {f"nobody@{alpha.domain}": 550, X: 550}
    assert b" with LMTP id " in alpha.messages(one)[0]
    p = run(["swaks", "--protocol", "LMTP", "--server", f"127.0.0.1:{alpha.lmtp}", "--from", X, "--to", f"{one},{two}"])
    assert p.returncode == 0, p.stdout
    assert p.stdout.count("<-  250 2.0.0 accepted") == 2, p.stdout
    assert len(alpha.messages(one)) == 2 and len(alpha.messages(two)) == 1
    with Smtp("127.0.0.1", alpha.lmtp, ehlo=None) as s:
        s.want("500", "EHLO client.test")


@pytest.fixture(scope="module")
def open_to_us():
    with Lab(zone=ZONE) as lab:
        with open(os.path.join(lab.alpha.dir, "postrider.yaml"), "a", encoding="utf-8") as f:
            f.write("smtp:\n  xclient_from: [127.0.0.0/8]\n  etrn_from: [127.0.0.0/8]\n")
        assert lab.alpha.cli("reload").returncode == 0
        yield lab.alpha


def test_xclient(open_to_us):
    host = open_to_us
    to, _ = host.account()
    p = run(["swaks", "--server", f"127.0.0.1:{host.smtp}", "--from", X, "--to", to, "--xclient-addr", "192.0.2.77",
             "--xclient-name", "client.else.test"])
    assert p.returncode == 0, p.stdout
    got = host.messages(to)[0]
    assert b"(client.else.test [192.0.2.77])" in got
    assert "192.0.2.77" in [e.get("peer") for e in host.trace(to)]


def test_etrn(open_to_us):
    host = open_to_us
    to = "etrn@fail.test"
    address, _ = host.account()
    with host.submit(address) as s:
        s.deliver(address, [to], message(address, to))
    wait_for(lambda: entry(host, to)["recipients"][0]["attempts"] == 1)
    with host.smtp_in() as s:
        s.want("251", "ETRN nothing.test")
        s.want("253 2.0.0", "ETRN FAIL.test")
    wait_for(lambda: entry(host, to)["recipients"][0]["attempts"] == 2)
