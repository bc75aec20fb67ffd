"""Ways out: named hosts with AUTH, LMTP, and what each transaction makes of the peer's offer."""

import base64
import email
import os
import re

import pytest

from conftest import ZONE
from lab import AdminError, Lab, Sink, message, unstuff, wait_for

from test_mail import bounce_of, events, submit_from_new

EIGHT_BIT = {"MIME_Version": "1.0", "Content_Type": "text/plain; charset=utf-8",
             "Content_Transfer_Encoding": "8bit"}


@pytest.fixture(scope="module")
def lab():
    with Lab(zone=ZONE + "own.test MX 10 mx.alpha.test\n") as it:
        alpha, beta = it.alpha, it.beta
        for host in it.hosts:  # the same name on both: beta lets its user send, alpha has mail of it
            host.ask("domain add", domain="shared.test")
        _, it.secret = beta.account("u")
        beta.ask("account add", address="u@shared.test", password=it.secret)
        alpha.ask("account add", address="u@shared.test", password="x" * 16)
        it.passwords["u@shared.test"] = "x" * 16
        for name, text in ("right", it.secret + "\nignored\n"), ("wrong", "guess\n"):
            with open(f"{it.dir}/{name}", "w") as f:
                f.write(text)
            os.chmod(f"{it.dir}/{name}", 0o600)
        hosts = f"""
    - {{name: smart, host: mx.beta.test, port: {beta.submissions}, tls: implicit, user: u@shared.test, password_file: {it.dir}/right}}
    - {{name: starttls, host: mx.beta.test, port: {beta.submission}, user: u@shared.test, password_file: {it.dir}/right}}
    - {{name: locked, host: mx.beta.test, port: {beta.submissions}, tls: implicit, user: u@shared.test, password_file: {it.dir}/wrong}}
    - {{name: verified, host: mx.h70.test, port: {alpha.mx}}}
    - {{name: login, host: mx.h71.test, port: {alpha.mx}, tls: none, user: me, password_file: {it.dir}/right}}
    - {{name: store, host: "{it.address(72)}", port: {alpha.mx}, tls: none, lmtp: yes}}
"""
        alpha.settings(f"relay:\n  hosts:{hosts}  routes:\n"
                 "    - {sender: u@shared.test, domain: beta.test, to: \"via:smart\"}\n"
                 "  verp: [{sender: news@alpha.test}]\n")
        yield it


def ehlo(*keywords):
    return b"".join(b"250-%s\r\n" % k for k in (b"sink", *keywords)) + b"250 HELP\r\n"


def send(host, to, sent=None, sender=None, parameters=""):
    """(sender, trace id) of SENT, or of a small message, to the list TO."""
    address = sender or host.account()[0]
    sent = sent or message(address, to[0])
    with host.submit(address) as s:
        s.want("250", f"MAIL FROM:<{address}>{parameters}")
        for t in to:
            s.want("250", f"RCPT TO:<{t}>")
        return address, s.body(sent).split()[-1]


def reroute(host, trace, to, route):
    """By hand, so that each test chooses its own way."""
    wait_for(lambda: [r for q in host.queue(to=to) for r in q["recipients"] if not r["in_delivery"]])
    # A destination that is cooled down takes leases and gives them back.
    wait_for(lambda: host.ask("queue reroute", id=trace, to_route=route) == [{"recipients": 1}])
    host.ask("queue retry", id=trace)


def waiting(host, to, attempts=1):
    return wait_for(lambda: [r for q in host.queue(to=to) for r in q["recipients"] if r["address"] == to
                             and r["attempts"] == attempts and not r["in_delivery"]])[0]


# ------------------------------------------------------------------ named hosts

def test_smart_host_by_scram(lab, alpha, beta):
    """The other end is gsasl's SCRAM-SHA-256."""
    to, _ = beta.account()
    _, trace = send(alpha, [to], sender="u@shared.test")
    beta.wait_messages(to)
    rows = wait_for(lambda: events(alpha.trace(trace), "rcpt.delivered") and alpha.trace(trace))
    connect, = events(rows, "relay.connect")
    assert connect["auth"] == "SCRAM-SHA-256" and connect["remote"].startswith("mx.beta.test[")
    assert events(rows, "relay.tls")[0]["verified"] == "yes"
    accepted, = [r for r in beta.trace(to) if r["event"] == "smtp.accepted"]
    assert accepted["account"] == "u@shared.test"


def test_starttls_then_login(lab, alpha, beta):
    to = "someone@fail.test"
    _, trace = send(alpha, [to], sender="u@shared.test")
    reroute(alpha, trace, to, "via:starttls")
    rows = wait_for(lambda: events(alpha.trace(trace), "relay.connect") and alpha.trace(trace))
    assert events(rows, "relay.connect")[-1]["auth"] == "SCRAM-SHA-256"
    wait_for(lambda: events(alpha.trace(trace), "rcpt.delivered"))


def test_wrong_password_waits(lab, alpha):
    to = "locked@fail.test"
    _, trace = send(alpha, [to], sender="u@shared.test")
    reroute(alpha, trace, to, "via:locked")
    wait_for(lambda: "does not accept our user or password" in
             "".join(r["reply"] for q in alpha.queue(to=to) for r in q["recipients"]))
    rcpt, = [r for q in alpha.queue(to=to) for r in q["recipients"]]
    assert rcpt["status"] == "4.7.0" and "535 5.7.8" in rcpt["reply"], rcpt
    assert alpha.messages("u@shared.test") == []
    alpha.ask("queue drop", to=to)


def test_secrets_stay_secret(lab, alpha):
    shown = alpha.cli("config", "show").stdout + alpha.cli("--json", "config", "show").stdout
    for text in (shown, alpha.log_text().decode("utf-8", "replace"), str(alpha.trace("u@shared.test"))):
        assert lab.secret not in text


def test_verify_is_the_default(lab, alpha):
    """No certificate, no mail: a host that was named must prove itself."""
    to = "x@fail.test"
    with Sink(lab.address(70), alpha.mx) as sink:
        _, _, trace = submit_from_new(alpha, to)
        reroute(alpha, trace, to, "via:verified")
        wait_for(lambda: "does not offer STARTTLS" in
                 "".join(r["reply"] for q in alpha.queue(to=to) for r in q["recipients"]))
        assert sink.mails == []
    alpha.ask("queue drop", to=to)


def test_unknown_name_is_refused(lab, alpha):
    with pytest.raises(AdminError) as e:
        alpha.ask("queue reroute", all=True, to_route="via:nobody")
    assert e.value.exit == 64


@pytest.mark.parametrize("offer", [b"AUTH LOGIN", b"AUTH LOGIN PLAIN"])
def test_login_and_plain(lab, alpha, offer):
    """In clear to this host itself only, which the loopback address is."""
    heard = []

    def auth(sink, sock, line):
        heard.append(line.strip())
        if b"LOGIN" in line:
            for prompt in (b"Username:", b"Password:"):
                sock.sendall(b"334 " + base64.b64encode(prompt) + b"\r\n")
                heard.append(sock.recv(1000).strip())
        sock.sendall(b"235 2.7.0 ok\r\n")

    to = "z@fail.test"
    with Sink(lab.address(71), alpha.mx, {"EHLO": ehlo(offer), "AUTH": auth}) as sink:
        _, _, trace = submit_from_new(alpha, to)
        reroute(alpha, trace, to, "via:login")
        sink.wait()
    wait_for(lambda: events(alpha.trace(trace), "rcpt.delivered"))
    secret = lab.secret.encode()
    if b"PLAIN" in offer:
        assert heard == [b"AUTH PLAIN " + base64.b64encode(b"\0me\0" + secret)]
    else:
        assert heard == [b"AUTH LOGIN", base64.b64encode(b"me"), base64.b64encode(secret)]


# ------------------------------------------------------------------ LMTP

def test_lmtp_answers_for_each(lab, alpha):
    """One recipient is delivered, one bounces, one waits (RFC 2033 4.2)."""
    to = ["good@fail.test", "bad@fail.test", "full@fail.test"]

    def end(sink, sock, line):
        sock.sendall(b"250 2.1.5 stored\r\n550 5.1.1 nobody\r\n452 4.2.2 full\r\n")

    with Sink(lab.address(72), alpha.mx, {"LHLO": ehlo(b"PIPELINING"), ".": end}) as sink:
        address, trace = send(alpha, to)
        wait_for(lambda: [r for q in alpha.queue(id=trace) for r in q["recipients"] if r["attempts"] == 1
                          and not r["in_delivery"]])
        assert alpha.ask("queue reroute", id=trace, to_route="via:store") == [{"recipients": 3}]
        alpha.ask("queue retry", id=trace)
        (_, rcpts, _), = sink.wait()
        assert any(line.startswith(b"LHLO ") for line in sink.lines)
    assert sorted(rcpts) == sorted(to)
    results = wait_for(lambda: (lambda r: r if len(r) == 3 else None)(
        {e["to"]: e["result"] for e in events(alpha.trace(trace), "relay.reply")}))
    in_order = dict(zip(rcpts, ("delivered", "failed", "deferred")))
    assert results == in_order
    assert waiting(alpha, rcpts[2], 2)["status"] == "4.2.2"
    _, human, _, _, _ = bounce_of(alpha, address)
    assert rcpts[1] in human and rcpts[0] not in human
    alpha.ask("queue drop", id=trace)


def test_lmtp_by_route(lab, alpha):
    to = "box@fail.test"
    with Sink(lab.address(73), alpha.mx, {"LHLO": ehlo()}) as sink:
        _, sent, trace = submit_from_new(alpha, to)
        reroute(alpha, trace, to, f"lmtp:[{lab.address(73)}]:{alpha.mx}")
        (_, rcpts, body), = sink.wait()
    assert rcpts == [to] and unstuff(body).endswith(sent)


# ------------------------------------------------------------------ what the peer offers

def test_eight_bits_become_seven(lab, alpha, place):
    """Without 8BITMIME the text goes as quoted-printable or base64, and reads the same."""
    text = "Gr\u00fc\u00dfe\r\n.\r\n" * 5
    with place.sink({"EHLO": ehlo()}) as sink:
        address, _ = alpha.account()
        sent = message(address, "x@" + place.domain, **EIGHT_BIT).decode() + text
        _, trace = send(alpha, ["x@" + place.domain], sent.encode(), address, " BODY=8BITMIME")
        (_, _, body), = sink.wait()
    assert not any(b > 127 for b in body) and not any(b"BODY=" in line for line in sink.lines)
    got = email.message_from_bytes(unstuff(body))
    assert got["Content-Transfer-Encoding"] in ("quoted-printable", "base64")
    assert got.get_payload(decode=True).decode().endswith(text)
    assert wait_for(lambda: events(alpha.trace(trace), "relay.downgraded"))


def test_eight_bits_stay_where_they_may(lab, alpha, place):
    with place.sink({"EHLO": ehlo(b"8BITMIME")}) as sink:
        address, _ = alpha.account()
        sent = message(address, "x@" + place.domain, **EIGHT_BIT) + "Gr\u00fc\u00dfe\r\n".encode()
        send(alpha, ["x@" + place.domain], sent, address, " BODY=8BITMIME")
        (_, _, body), = sink.wait()
    assert unstuff(body).endswith(sent)
    assert [line for line in sink.lines if b" BODY=8BITMIME" in line]


def test_one_wide_address_harms_no_other(lab, alpha, place):
    """Only the recipient that needs SMTPUTF8 fails at a peer without it."""
    plain, wide = f"plain@{place.domain}", f"j\u00f6rg@{place.domain}"
    with place.sink({"EHLO": ehlo(b"8BITMIME")}) as sink:
        address, _ = send(alpha, [plain, wide], parameters=" SMTPUTF8")
        (_, rcpts, _), = sink.wait()
    assert rcpts == [plain]
    _, human, _, per_rcpt, _ = bounce_of(alpha, address)
    assert per_rcpt["Status"] == "5.6.7"


def test_limits_are_kept(lab, alpha, place):
    to = [f"r{i}@{place.domain}" for i in range(7)]
    with place.sink({"EHLO": ehlo(b"PIPELINING", b"LIMITS RCPTMAX=3 MAILMAX=2")}) as sink:
        _, trace = send(alpha, to)
        mails = sink.wait(3)
        assert sorted(len(rcpts) for _, rcpts, _ in mails) == [1, 3, 3]
        assert sink.connections == 2
    assert sorted(r for _, rcpts, _ in mails for r in rcpts) == to


def test_require_tls_stops_at_a_peer_without(lab, alpha, beta, place):
    """RFC 8689: over verified TLS to a peer that offers it, else it comes back."""
    to, _ = beta.account()
    _, trace = send(alpha, [to], parameters=" REQUIRETLS")
    beta.wait_messages(to)
    with place.sink() as sink:
        address, _ = send(alpha, ["x@" + place.domain], parameters=" REQUIRETLS")
        _, human, _, per_rcpt, _ = bounce_of(alpha, address)
        assert sink.mails == []
    assert per_rcpt["Status"] in ("5.7.10", "5.7.30")


def test_priority_and_time_go_on(lab, alpha, place):
    with place.sink({"EHLO": ehlo(b"MT-PRIORITY", b"DELIVERBY 10")}) as sink:
        send(alpha, ["x@" + place.domain], parameters=" MT-PRIORITY=-2 BY=600;R")
        sink.wait()
    mail, = [line for line in sink.lines if line.startswith(b"MAIL")]
    assert b" MT-PRIORITY=-2" in mail
    left = int(re.search(rb" BY=(\d+);R", mail)[1])
    assert 0 < left <= 600
    with place.sink({"EHLO": ehlo()}) as sink:
        address, _ = send(alpha, ["y@" + place.domain], parameters=" BY=600;R")
        _, _, _, per_rcpt, _ = bounce_of(alpha, address)
        assert sink.mails == []
    assert per_rcpt["Status"] == "5.3.3"


def test_verp(lab, alpha, place):
    """A reverse-path for each recipient, to which a bounce comes back."""
    to = [f"r{i}@{place.domain}" for i in range(3)]
    alpha.account("news")
    with place.sink() as sink:
        send(alpha, to, sender="news@alpha.test")
        mails = sink.wait(3)
        assert sink.connections == 1
    assert sorted((sender, rcpts) for sender, rcpts, _ in mails) == \
        [(f"news+r{i}={place.domain}@alpha.test", [f"r{i}@{place.domain}"]) for i in range(3)]
    with alpha.smtp_in() as s:
        s.deliver("", mails[0][0], message("mailer@sink.test", mails[0][0]))
    assert len(alpha.wait_messages("news@alpha.test")) == 1


# ------------------------------------------------------------------ a domain that becomes ours

def test_domain_that_became_ours(lab, alpha):
    """Mail that waits for it is not bounced as a loop: it goes where the address leads now."""
    to = "late@implicit.test"  # nobody listens there
    address, sent, trace = submit_from_new(alpha, to)
    waiting(alpha, to)
    alpha.ask("domain add", domain="implicit.test")
    alpha.ask("account add", address=to, password="y" * 16)
    lab.passwords[to] = "y" * 16
    alpha.ask("queue retry", to=to)
    got = alpha.wait_messages(to)
    assert len(got) == 1 and got[0].endswith(sent)
    assert alpha.queue(to=to) == [] and alpha.messages(address) == []
    assert wait_for(lambda: events(alpha.trace(trace), "route.changed"))


def test_our_own_mx(lab, alpha):
    """Who names us as the MX of a domain that is not ours loops; if it is ours by then, it is delivered."""
    to = "early@own.test"
    address, _, _ = submit_from_new(alpha, to)
    _, _, _, per_rcpt, _ = bounce_of(alpha, address)
    assert per_rcpt["Status"] == "5.4.6"
    address, trace = send(alpha, [to], parameters=" HOLDFOR=1")
    alpha.ask("domain add", domain="own.test")
    alpha.ask("account add", address=to, password="y" * 16)
    lab.passwords[to] = "y" * 16
    assert len(alpha.wait_messages(to)) == 1
    assert wait_for(lambda: events(alpha.trace(trace), "route.changed"))
    assert alpha.messages(address) == []
