"""Delivery reports that were asked for (RFC 3461), as a mail reader finds them (RFC 3464)."""

import email
import time
from email.utils import parsedate_to_datetime

import pytest

from conftest import ZONE
from lab import Lab, Sink, message, wait_for

DSN_PEER = {"EHLO": b"250-peer\r\n250-PIPELINING\r\n250 DSN\r\n"}


class Report:
    """A delivery report, checked for its form."""

    def __init__(self, raw):
        m = email.message_from_bytes(raw)
        assert m["Return-Path"] == "<>" and m["Auto-Submitted"] == "auto-replied"
        assert m.get_content_type() == "multipart/report"
        assert m.get_param("report-type") == "delivery-status"
        human, status, self.original = m.get_payload()
        assert human.get_content_type() == "text/plain"
        assert status.get_content_type() == "message/delivery-status"
        self.envelope, *self.rcpts = status.get_payload()
        assert self.envelope["Reporting-MTA"] == "dns; mx.alpha.test"
        parsedate_to_datetime(self.envelope["Arrival-Date"])
        for r in self.rcpts:
            assert r["Status"][0] == {"failed": r["Status"][0], "delayed": "4"}.get(
                r["Action"], "2")
            parsedate_to_datetime(r["Last-Attempt-Date"])

    @property
    def only(self):
        assert len(self.rcpts) == 1
        return self.rcpts[0]


def reports(host, address, n=1):
    return [Report(raw) for raw in host.wait_messages(address, n)]


def submit(host, sender, *rcpts, mail="", text="Hello.\r\n"):
    """RCPTS: (address, parameters).  The id of the message."""
    with host.submit(sender) as s:
        assert "250-DSN" in s.features or "250 DSN" in s.features
        s.want("250", f"MAIL FROM:<{sender}> {mail}".strip())
        for address, parameters in rcpts:
            s.want("250", f"RCPT TO:<{address}> {parameters}".strip())
        got = s.body(message(sender, rcpts[0][0], "asked", text))
        assert got.startswith("250"), got
        return got.split()[-1]


def events(host, trace, name):
    return [r for r in host.trace(trace) if r["event"] == name]


def settled(host, trace, n=1):
    wait_for(lambda: len(events(host, trace, "rcpt.delivered")) +
             len(events(host, trace, "rcpt.failed")) >= n)


@pytest.fixture
def sender(alpha):
    return alpha.account()[0]


# ------------------------------------------------------------------ success

def test_delivered_here(alpha, sender):
    to, _ = alpha.account()
    submit(alpha, sender, (to, "NOTIFY=SUCCESS ORCPT=rfc822;My+2BFriend+40Alpha.Test"),
           mail="RET=FULL ENVID=QQ314159+3Dx")
    assert len(alpha.wait_messages(to)) == 1
    report, = reports(alpha, sender)
    assert report.envelope["Original-Envelope-Id"] == "QQ314159=x"
    assert report.only["Original-Recipient"] == "rfc822;My+Friend@Alpha.Test"
    assert report.only["Final-Recipient"] == f"rfc822; {to}"
    assert report.only["Action"] == "delivered" and report.only["Status"] == "2.1.5"
    assert report.original.get_content_type() == "text/rfc822-headers", "RET is for failures"
    assert "Subject: asked" in report.original.as_string()


def test_of_several_only_who_was_asked_for(alpha, sender):
    boxes = [alpha.account()[0] for _ in range(4)]
    trace = submit(alpha, sender, (boxes[0], "NOTIFY=SUCCESS,FAILURE"), (boxes[1], ""),
                   (boxes[2], "NOTIFY=NEVER"), (boxes[3], "NOTIFY=FAILURE,DELAY"))
    for box in boxes:
        assert len(alpha.wait_messages(box)) == 1
    settled(alpha, trace, 4)
    report, = reports(alpha, sender)
    assert report.only["Final-Recipient"] == f"rfc822; {boxes[0]}"
    assert report.envelope["Original-Envelope-Id"] is None
    assert report.only["Original-Recipient"] is None


def test_from_outside(lab, alpha, place):
    """The report of a success leaves for the sender's own server, from the null sender."""
    to, _ = alpha.account()
    with place.sink(DSN_PEER) as sink, alpha.smtp_in() as s:
        s.want("250", f"MAIL FROM:<x@{place.domain}> ENVID=out")
        s.want("250", f"RCPT TO:<{to}> NOTIFY=SUCCESS")
        assert s.body(message(f"x@{place.domain}", to)).startswith("250")
        (back, rcpts, raw), = sink.wait()
        assert back == "" and rcpts == [f"x@{place.domain}"]
        assert b"NOTIFY=NEVER" in b"".join(line for line in sink.lines if line[:4] == b"RCPT")
        assert b"Action: delivered\r\n" in raw and b"Original-Envelope-Id: out\r\n" in raw


def test_relayed_to_a_peer_without_dsn(alpha, sender, place):
    to = f"x@{place.domain}"
    with place.sink() as sink:
        submit(alpha, sender, (to, f"NOTIFY=SUCCESS ORCPT=rfc822;{to}"), mail="ENVID=e1")
        sink.wait()
        report, = reports(alpha, sender)
    assert report.only["Action"] == "relayed" and report.only["Status"] == "2.0.0"
    assert report.only["Remote-MTA"] == f"dns; mx.{place.domain}"
    assert report.only["Diagnostic-Code"].startswith("smtp; 250")
    assert not any(word in line for line in sink.lines
                   for word in (b"NOTIFY", b"ENVID", b"ORCPT", b"RET="))


def test_passed_on_to_a_peer_with_dsn(alpha, sender, place):
    first, second = f"a@{place.domain}", f"b@{place.domain}"
    with place.sink(DSN_PEER) as sink:
        trace = submit(alpha, sender, (first, "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb+40C.test"),
                       (second, ""), mail="RET=HDRS ENVID=id+2B1")
        sink.wait()
        plain = submit(alpha, sender, (first, ""))
        sink.wait(2)
        settled(alpha, trace, 2)
        settled(alpha, plain)
    said = [line.rstrip() for line in sink.lines if line[:4] in (b"MAIL", b"RCPT")]
    assert said == [f"MAIL FROM:<{sender}> RET=HDRS ENVID=id+2B1".encode(),
                    f"RCPT TO:<{first}> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@C.test".encode(),
                    f"RCPT TO:<{second}>".encode(),
                    f"MAIL FROM:<{sender}>".encode(), f"RCPT TO:<{first}>".encode()]
    alpha.wait_empty_queue()
    assert alpha.messages(sender) == []


def test_across_two_hosts(alpha, beta, sender):
    """Whoever delivers reports: beta, since it was passed the request."""
    to, _ = beta.account()
    submit(alpha, sender, (to, "NOTIFY=SUCCESS"), mail="ENVID=far")
    assert len(beta.wait_messages(to)) == 1
    raw, = alpha.wait_messages(sender)
    status = email.message_from_bytes(raw).get_payload()[1].get_payload()
    assert status[0]["Reporting-MTA"] == "dns; mx.beta.test"
    assert status[0]["Original-Envelope-Id"] == "far"
    assert status[1]["Action"] == "delivered"


def test_aliases(alpha, sender):
    a, b = alpha.account()[0], alpha.account()[0]
    name = a.split("@")[0]
    alpha.ask("alias add", address=f"two-{name}@alpha.test", targets=[a, b])
    alpha.ask("alias add", address=f"one-{name}@alpha.test", targets=[a])
    submit(alpha, sender, (f"two-{name}@alpha.test", "NOTIFY=SUCCESS"))
    report, = reports(alpha, sender)
    assert report.only["Action"] == "expanded"
    assert report.only["Final-Recipient"] == f"rfc822; two-{name}@alpha.test"
    submit(alpha, sender, (f"one-{name}@alpha.test", "NOTIFY=SUCCESS"))
    assert reports(alpha, sender, 2)[1].only["Action"] == "delivered"
    assert len(alpha.wait_messages(a, 2)) == 2 and len(alpha.wait_messages(b)) == 1
    alpha.wait_empty_queue()
    assert len(alpha.messages(sender)) == 2


def test_a_report_is_not_reported(alpha):
    to, _ = alpha.account()
    with alpha.smtp_in() as s:
        s.want("250", "MAIL FROM:<>")
        s.want("250", f"RCPT TO:<{to}> NOTIFY=SUCCESS,FAILURE,DELAY")
        got = s.body(message("x@sink.test", to))
    assert len(alpha.wait_messages(to)) == 1
    rows = alpha.trace(got.split()[-1])
    assert not [r for r in rows if r["event"] in ("report.queued", "bounce.queued")]


# ------------------------------------------------------------------ failure

@pytest.mark.parametrize("notify, told", [
    ("", True), ("NOTIFY=FAILURE", True), ("NOTIFY=SUCCESS,FAILURE", True),
    ("NOTIFY=NEVER", False), ("NOTIFY=SUCCESS", False), ("NOTIFY=DELAY", False)])
def test_failure(alpha, sender, place, notify, told):
    with place.sink({"RCPT": b"550 5.1.1 nobody\r\n"}):
        trace = submit(alpha, sender, (f"x@{place.domain}", notify), mail="ENVID=f")
        settled(alpha, trace)
        alpha.wait_empty_queue()
    if not told:
        assert alpha.messages(sender) == []
        return
    report, = reports(alpha, sender)
    assert report.only["Action"] == "failed" and report.only["Status"] == "5.1.1"
    assert report.envelope["Original-Envelope-Id"] == "f"


@pytest.mark.parametrize("ret, size, whole", [
    ("", 100, True), ("RET=HDRS", 100, False), ("RET=FULL", 100, True), ("", 50000, False),
    ("RET=FULL", 50000, True), ("RET=FULL", 200000, False)])
def test_what_comes_back(alpha, sender, place, ret, size, whole):
    text = "All of the body.\r\n" * (size // 18)
    with place.sink({"RCPT": b"550 5.1.1 nobody\r\n"}):
        submit(alpha, sender, (f"x@{place.domain}", ""), mail=ret, text=text)
        report, = reports(alpha, sender)
    assert report.original.get_content_type() == \
        ("message/rfc822" if whole else "text/rfc822-headers")
    assert ("All of the body." in report.original.as_string()) == whole


# ------------------------------------------------------------------ delay

def test_a_delay_is_told_once():
    with Lab(zone=ZONE) as lab, Sink(lab.address(10), lab.alpha.mx,
                                     {"RCPT": b"450 4.2.1 later\r\n"}):
        alpha = lab.alpha
        asked, silent = alpha.account()[0], alpha.account()[0]
        submit(alpha, asked, ("a@sink.test", "NOTIFY=DELAY ORCPT=rfc822;first@sink.test"),
               mail="ENVID=slow")
        submit(alpha, asked, ("b@sink.test", ""))
        for notify in "NEVER", "FAILURE", "SUCCESS":
            submit(alpha, silent, (f"{notify.lower()}@sink.test", f"NOTIFY={notify}"))

        def tried(n):
            rows = [r for q in alpha.queue() for r in q["recipients"]]
            return len(rows) == 5 and all(r["attempts"] >= n and not r["in_delivery"]
                                          for r in rows)
        wait_for(lambda: tried(1))
        lab.clock("+2h")
        wait_for(lambda: tried(2))
        assert alpha.messages(asked) == []
        lab.clock("+3h")
        wait_for(lambda: tried(3))
        told = {r.only["Final-Recipient"]: r for r in reports(alpha, asked, 2)}
        assert set(told) == {"rfc822; a@sink.test", "rfc822; b@sink.test"}
        report = told["rfc822; a@sink.test"]
        assert report.envelope["Original-Envelope-Id"] == "slow"
        assert report.only["Original-Recipient"] == "rfc822;first@sink.test"
        assert report.only["Action"] == "delayed" and report.only["Status"] == "4.2.1"
        until = parsedate_to_datetime(report.only["Will-Retry-Until"])
        since = parsedate_to_datetime(report.envelope["Arrival-Date"])
        assert abs((until - since).total_seconds() - 5 * 86400) < 2
        lab.clock("+5h")
        wait_for(lambda: tried(4))
        time.sleep(0.3)
        assert len(alpha.messages(asked)) == 2
        lab.clock("+6d")
        told = [r.only["Action"] for r in reports(alpha, asked, 3)]
        wait_for(lambda: not alpha.queue())
        # Who asked for DELAY only hears nothing of the end.
        assert told == ["delayed", "delayed", "failed"]
        failed, = reports(alpha, silent)
        assert failed.only["Final-Recipient"] == "rfc822; failure@sink.test"


def test_parameters_that_are_wrong(alpha):
    with alpha.smtp_in() as s:
        for line in ("RET=ALL", "ENVID=", "ENVID=a+0D", "RET=FULL RET=FULL", "NOTIFY=NEVER"):
            assert s.cmd(f"MAIL FROM:<x@sink.test> {line}")[:3] in ("501", "555"), line
        s.want("250", "MAIL FROM:<x@sink.test>")
        for line in ("NOTIFY=", "NOTIFY=NEVER,SUCCESS", "NOTIFY=SOON", "ORCPT=a@b", "ORCPT=rfc822;",
                     "ORCPT=rfc822;a+4", "ENVID=a"):
            assert s.cmd(f"RCPT TO:<alice@alpha.test> {line}")[:3] in ("501", "555"), line
