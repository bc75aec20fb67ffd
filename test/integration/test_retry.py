"""When a deferred message is tried again: each rule of queue.rules by the lab's clock, with real replies, and the
time that a sender asks to deliver by (RFC 2852)."""

import datetime

import pytest

from lab import message, wait_for

from test_mail import bounce_of, events, submit_from_new

MINUTE, HOUR, DAY = 60, 3600, 86400


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def deferred(host, trace, attempts):
    """The one recipient of TRACE after that many attempts, and how long after the last one the next will be."""
    def there():
        return [r for q in host.queue(id=trace) for r in q["recipients"]
                if r["attempts"] == attempts and not r["in_delivery"]]
    r, = wait_for(there, what=f"attempt {attempts}")
    told = wait_for(lambda: [e for e in events(host.trace(trace), "rcpt.deferred") if int(e["attempt"]) == attempts])
    return r, seconds(r["next_attempt"]) - seconds(told[0]["time"])


def near(got, want):
    assert 0.88 * want - 2 < got < 1.12 * want + 2, f"{got} s instead of {want} s"


@pytest.mark.parametrize("reply, rule, waits, lasts", [
    (b"450 4.2.0 <x>: Recipient address rejected: Greylisted\r\n", "greylist", [2 * MINUTE, 3 * MINUTE, 4.5 * MINUTE], 5 * DAY),
    (b"452 4.2.2 mailbox full\r\n", "mailbox_full", [30 * MINUTE, HOUR, 2 * HOUR], 5 * DAY),
    (b"451 4.3.0 try again\r\n", "", [5 * MINUTE, 10 * MINUTE, 20 * MINUTE], 5 * DAY),
])
def test_rules(lab, alpha, place, reply, rule, waits, lasts):
    with place.sink({"RCPT": reply}):
        _, _, trace = submit_from_new(alpha, f"x@{place.domain}")
        for attempt, wait in enumerate(waits, 1):
            r, got = deferred(alpha, trace, attempt)
            near(got, wait)
            assert r["rule"] == rule
            assert seconds(r["retry_until"]) - seconds(alpha.queue(id=trace)[0]["accepted"]) == lasts
            shown = alpha.cli("queue", "show", trace).stdout
            assert (f'"{rule}"' if rule else "no case of queue.rules") in shown
            lab.clock(f"{int(got) + 5}s")
        deferred(alpha, trace, len(waits) + 1)
    alpha.ask("queue drop", id=trace)


@pytest.mark.parametrize("to, status", [("x@dead.test", "4.4.1"), ("x@fail.test", "4.4.3")])
def test_no_connection_and_no_name(lab, alpha, to, status):
    _, _, trace = submit_from_new(alpha, to)
    for attempt, wait in enumerate([5 * MINUTE, 10 * MINUTE], 1):
        r, got = deferred(alpha, trace, attempt)
        assert r["status"] == status
        near(got, wait)
        lab.clock(f"{int(got) + 5}s")
    alpha.ask("queue drop", id=trace)


def submit_with(host, to, parameters):
    address, _ = host.account()
    with host.submit(address) as s:
        s.want("250", f"MAIL FROM:<{address}> {parameters}")
        s.want("250", f"RCPT TO:<{to}>")
        return address, s.body(message(address, to)).split()[-1]


def test_urgent_is_tried_more_often(lab, alpha, place):
    with place.sink({"RCPT": b"451 4.3.0 try again\r\n"}):
        _, trace = submit_with(alpha, f"x@{place.domain}", "MT-PRIORITY=5")
        r, got = deferred(alpha, trace, 1)
        near(got, MINUTE)
        assert r["rule"] == "any"
        assert "priority +5" in alpha.cli("queue", "show", trace).stdout
    alpha.ask("queue drop", id=trace)


def test_returned_in_time(lab, alpha, place):
    with place.sink({"RCPT": b"452 4.2.2 mailbox full\r\n", "EHLO": b"250-sink\r\n250 DELIVERBY\r\n"}) as sink:
        address, trace = submit_with(alpha, f"x@{place.domain}", "BY=1200;R")
        r, got = deferred(alpha, trace, 1)
        assert seconds(r["next_attempt"]) == seconds(alpha.queue(id=trace)[0]["deliver_by"])
        assert "wants it back" in alpha.cli("queue", "show", trace).stdout
        asked = len(sink.lines)
        lab.clock("1210s")
        _, _, per_message, per_rcpt, _ = bounce_of(alpha, address)
        assert per_rcpt["Action"] == "failed" and per_rcpt["Status"] == "5.4.7" and per_message["Deliver-By-Date"]
        assert [line for line in sink.lines[asked:] if b"RCPT" in line] == []  # not tried again
    assert alpha.queue(id=trace) == []


def test_told_in_time(lab, alpha, place):
    with place.sink({"RCPT": b"452 4.2.2 mailbox full\r\n"}) as sink:
        address, trace = submit_with(alpha, f"x@{place.domain}", "BY=1200;N")
        deferred(alpha, trace, 1)
        assert alpha.messages(address) == []
        lab.clock("1210s")
        _, _, _, per_rcpt, _ = bounce_of(alpha, address)
        assert per_rcpt["Action"] == "delayed" and per_rcpt["Status"] == "4.4.7"
        sink.replies.clear()
        lab.clock("3h")
        sink.wait()
        wait_for(lambda: not alpha.queue(id=trace))
    assert len(alpha.messages(address)) == 1


def test_warned_at_the_right_time(lab, alpha, place):
    with place.sink({"RCPT": b"451 4.3.0 try again\r\n"}):
        address, _, trace = submit_from_new(alpha, f"x@{place.domain}")
        deferred(alpha, trace, 1)
        lab.clock("3h30m")
        deferred(alpha, trace, 2)
        assert alpha.messages(address) == []
        lab.clock("1h")
        deferred(alpha, trace, 3)
        _, _, _, per_rcpt, _ = bounce_of(alpha, address)
        assert per_rcpt["Action"] == "delayed" and per_rcpt["Status"] == "4.3.0"
    alpha.ask("queue drop", id=trace)


def test_the_clock_jumps_back(lab, alpha, place):
    with place.sink({"RCPT": b"451 4.3.0 try again\r\n"}) as sink:
        _, _, trace = submit_from_new(alpha, f"x@{place.domain}")
        deferred(alpha, trace, 1)
        lab.clock("-30d")
        r, _ = deferred(alpha, trace, 1)  # not tried again for the jump
        assert seconds(r["next_attempt"]) < seconds(alpha.queue(id=trace)[0]["accepted"]) - 29 * DAY
        sink.replies.clear()
        lab.clock("14h")
        sink.wait()
        wait_for(lambda: not alpha.queue(id=trace))
