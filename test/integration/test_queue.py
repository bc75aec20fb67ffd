"""The queue by hand: hold, release, reroute, bounce and drop, by filters, tried first with --dry-run."""

import json

import pytest

from conftest import ZONE
from lab import Lab, message, wait_for

from test_mail import bounce_of, events, submit_from_new


def waiting(host, to, attempts=1):
    """The one recipient TO once it was tried and waits."""
    return wait_for(lambda: [r for q in host.queue(to=to) for r in q["recipients"] if r["address"] == to
                             and r["attempts"] == attempts and not r["in_delivery"]])[0]


def rows(p):
    assert p.returncode == 0, p.stderr
    return [json.loads(line) for line in p.stdout.splitlines()]


def tree(host):
    """All of the queue, as it is."""
    return sorted(json.dumps(q, sort_keys=True) for q in host.queue())


def test_held_through_a_restart():
    with Lab(zone=ZONE) as lab:
        alpha = lab.alpha
        to = "held@fail.test"
        _, _, trace = submit_from_new(alpha, to)
        waiting(alpha, to)
        assert alpha.ask("queue hold", id=trace) == [{"recipients": 1}]
        assert alpha.ask("queue hold", id=trace) == [{"recipients": 0}]
        assert waiting(alpha, to)["state"] == "held"
        assert "held" in alpha.cli("queue", "show", trace).stdout
        lab.clock("7d")  # past its lifetime
        lab.stop()
        lab.start()
        alpha = lab.alpha
        lab.clock("7d")
        assert alpha.ask("queue retry", to=to) == [{"recipients": 0}]
        assert waiting(alpha, to)["state"] == "held"
        assert [q["id"] for q in alpha.queue(state="held")] == [trace]
        assert alpha.queue(state="waiting", to=to) == []
        assert alpha.ask("queue release", to=to) == [{"recipients": 1}]
        # The first attempt after its release is the last.
        wait_for(lambda: events(alpha.trace(trace), "rcpt.failed"))
        alpha.wait_empty_queue()
        told = [e["event"] for e in alpha.trace(trace)]
        assert told.index("queue.hold") < told.index("queue.release") < told.index("rcpt.failed")


@pytest.mark.parametrize("held", [False, True])
def test_bounce(alpha, held):
    to = f"returned{held}@fail.test".lower()
    address, _, trace = submit_from_new(alpha, to)
    waiting(alpha, to)
    if held:
        alpha.ask("queue hold", to=to)
    assert alpha.ask("queue bounce", id=trace) == [{"recipients": 1}]
    _, human, _, per_rcpt, _ = bounce_of(alpha, address)
    assert per_rcpt["Status"] == "5.7.0" and to in per_rcpt["Final-Recipient"]
    assert "550 5.7.0 returned by the administrator" in per_rcpt["Diagnostic-Code"]
    assert alpha.queue(to=to) == []
    assert alpha.ask("queue bounce", id=trace) == [{"recipients": 0}]
    alpha.wait_empty_queue()
    assert len(alpha.messages(address)) == 1


def test_bounce_of_one_of_two(alpha):
    to = ["one@fail.test", "two@fail.test"]
    address, _ = alpha.account()
    with alpha.submit(address) as s:
        s.deliver(address, to, message(address, to[0]))
    for t in to:
        waiting(alpha, t)
    assert alpha.ask("queue bounce", to=to[0]) == [{"recipients": 1}]
    _, human, _, per_rcpt, _ = bounce_of(alpha, address)
    assert to[0] in per_rcpt["Final-Recipient"] and to[1] not in human
    assert waiting(alpha, to[1])["state"] == "waiting"
    alpha.ask("queue drop", all=True)


def test_reroute(alpha, place):
    to = "moved@fail.test"
    _, sent, trace = submit_from_new(alpha, to)
    waiting(alpha, to)
    route = f"smtp:[{place.address}]:{place.port}"
    assert rows(alpha.cli("--json", "queue", "reroute", "--to", to, "--to-route", route)) == [{"recipients": 1}]
    assert waiting(alpha, to)["route"] == route
    with place.sink() as sink:
        alpha.ask("queue retry", to=to)
        (_, rcpts, _), = sink.wait()
    assert rcpts == [to]
    alpha.wait_empty_queue()
    assert [e["route"] for e in alpha.trace(trace) if e["event"] == "queue.reroute"] == [route]
    for wrong in ["local", "smtp:", "smtp:[x.test", "smtp:[x.test]:0"]:
        assert alpha.cli("queue", "reroute", "--all", "--to-route", wrong).returncode == 64
    assert alpha.cli("queue", "reroute", "--all").returncode == 64


def test_filters_and_dry_runs(lab, alpha):
    address, _ = alpha.account()
    with alpha.submit(address) as s:
        both = s.deliver(address, ["x@fail.test", "y@dead.test"], message(address, "x@fail.test"))
    waiting(alpha, "x@fail.test")
    waiting(alpha, "y@dead.test")
    lab.clock("60s")
    with alpha.submit(address) as s:
        late = s.deliver(address, ["z@dead.test"], message(address, "z@dead.test"))
    waiting(alpha, "z@dead.test")
    alpha.ask("queue hold", to="z@dead.test")
    before = tree(alpha)

    def dry(command, *argv):
        """(ids, recipients' addresses) that COMMAND would touch."""
        *entries, total = rows(alpha.cli("--json", "queue", command, "--dry-run", *argv))
        touched = [r["address"] for e in entries for r in e["recipients"]]
        assert total == {"dry_run": True, "messages": len(entries), "recipients": len(touched)}
        return [e["id"] for e in entries], sorted(touched)

    for command in ("bounce", "drop"):
        assert dry(command, "--all") == ([both, late], ["x@fail.test", "y@dead.test", "z@dead.test"])
        assert dry(command, "--age", "30s") == ([both], ["x@fail.test", "y@dead.test"])
        assert dry(command, "--age", "30s", "--domain", "dead.test") == ([both], ["y@dead.test"])
        assert dry(command, "--state", "held") == ([late], ["z@dead.test"])
        assert dry(command, "--state", "delivering") == ([], [])
        assert dry(command, late) == ([late], ["z@dead.test"])
        assert dry(command, "--from", address, "--to", "nobody@dead.test") == ([], [])
    reply = waiting(alpha, "x@fail.test")["reply"]
    assert reply and dry("drop", "--domain", "fail.test", "--reply", reply[3:].upper()) == ([both], ["x@fail.test"])
    assert dry("drop", "--domain", "fail.test", "--reply", reply + "!") == ([], [])
    assert dry("hold", "--all") == dry("retry", "--all") == ([both], ["x@fail.test", "y@dead.test"])
    assert dry("release", "--all") == ([late], ["z@dead.test"])
    assert dry("reroute", "--domain", "dead.test", "--to-route", "smtp:else.test") == \
        ([both, late], ["y@dead.test", "z@dead.test"])
    text = alpha.cli("queue", "bounce", "--all", "--dry-run").stdout
    assert "z@dead.test" in text and "3 recipients of 2 messages would be touched; nothing was changed" in text
    assert tree(alpha) == before

    for argv in (["hold"], ["bounce"], ["drop", "--age", "soon"], ["list", "--state", "asleep"]):
        assert alpha.cli("queue", *argv).returncode == 64
    assert rows(alpha.cli("--json", "queue", "drop", "--age", "30s", "--to", "y@dead.test")) == [{"recipients": 1}]
    assert rows(alpha.cli("--json", "queue", "drop", "--all")) == [{"recipients": 2}]
    assert alpha.queue() == []
