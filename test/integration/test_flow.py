"""Who gets a connection: dead, failing and living destinations beside each other."""
import os
import sys

from lab import POSTRIDER, ROOT, Lab, wait_for

sys.path.append(os.path.join(ROOT, "bench"))
import slow  # noqa: E402

TOOL = os.path.join(os.path.dirname(POSTRIDER), "bench", "bench_slow_sink")
DESTINATIONS, DEAD = 200, 20


def test_the_dead_keep_nobody_waiting():
    """Twenty destinations take connections and never say a word.  They hold half of a small pool: the others get all
    their mail by what is left, while the mail for those twenty waits."""
    with Lab(zone=slow.zone_of(DESTINATIONS)) as lab:
        alpha = lab.alpha
        port = slow.send_elsewhere(alpha, f"  connections: {4 * DEAD}\n")
        sink = slow.Sink(TOOL, port, DEAD, delay_ms=5)
        account, _ = alpha.account("sender")
        slow.submit(alpha, account, [i for i in range(DESTINATIONS) for _ in range(2)])
        living = [i for i in range(DEAD, DESTINATIONS) for _ in range(2)]
        wait_for(lambda: len(sink.got) == len(living), what="all mail of those who live")
        assert sorted(n for _, n in sink.got) == living
        rest = wait_for(lambda: len(alpha.queue()) == 2 * DEAD and alpha.queue(), what="nothing but the dead ones' mail to be left")
        rcpts = [r for q in rest for r in q["recipients"]]
        assert {r["attempts"] for r in rcpts} == {0}
        assert {r["address"] for r in rcpts} == {f"x@{slow.DOMAIN % i}" for i in range(DEAD)}
        alpha.ask("queue drop", all=True)
        sink.close()


def test_a_circuit(lab, alpha, place):
    """A destination that refuses is left alone after three attempts: its mail waits, untried, until somebody asks or it
    is time to look again.  Then all of it goes."""
    account, _ = alpha.account()
    to = f"x@{place.domain}"

    def attempts():
        return sorted(r["attempts"] for q in alpha.queue(to=to) for r in q["recipients"])

    def send():
        with alpha.submit(account) as s:
            s.deliver(account, to, b"Subject: x\r\n\r\nx\r\n")

    for n in range(1, 4):
        send()
        wait_for(lambda n=n: attempts() == [1] * n, what=f"attempt {n}")
    log = wait_for(lambda: [line for line in alpha.log_text().split(b"\n") if b"relay.circuit state=open" in line
                            and place.domain.encode() in line], what="the circuit")
    assert b"refused" in log[-1]
    send()
    wait_for(lambda: attempts() == [0, 1, 1, 1])
    row, = [r for r in alpha.ask("queue destinations") if r["route"] == f"smtp:{place.domain}"]
    assert row["state"] == "cooled down" and row["waits"] and row["limit"] == 0 and 0 < row["cooled_seconds"] <= 32
    assert "refused" in row["why"] and row["connections"] == 0
    assert "cooled down  for" in alpha.cli("queue", "destinations").stdout
    with place.sink() as sink:
        alpha.ask("queue retry", to=to)
        wait_for(lambda: len(sink.mails) == 4, what="the mail that waited")
        wait_for(lambda: not alpha.queue(to=to))
    assert [line for line in alpha.log_text().split(b"\n") if b"relay.circuit state=closed" in line]
