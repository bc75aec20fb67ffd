"""Where mail goes: aliases, lists, forwards with their bounces, other domains' mail, ways out."""

import base64
import re
import subprocess

import dkim
import pytest
from lab import Sink, message, wait_for

ALICE, BOB = "alice@alpha.test", "bob@alpha.test"
REFUSES = {"RCPT": b"550 5.1.1 not here\r\n"}


def arrive(host, sender, rcpt, text=None):
    """From another server, on port 25: the reply to RCPT, or the id."""
    with host.smtp_in() as s:
        s.want("250", f"MAIL FROM:<{sender}>")
        got = s.cmd(f"RCPT TO:<{rcpt}>")
        if not got.startswith("250"):
            return got
        got = s.body(text or message(sender or "x@far.test", rcpt))
        assert got.startswith("250"), got
        return got.split()[-1]


def alias(host, local, *targets, **options):
    address = f"{local}@{host.domain}"
    host.ask("alias add", address=address, targets=list(targets), **options)
    return address


# ------------------------------------------------------------------ forwards

@pytest.fixture(scope="module")
def signer():
    """Two functions of a message: its signature for a domain, and whether it holds."""
    def openssl(*argv, **kw):
        return subprocess.run(["openssl", *argv], check=True, capture_output=True, **kw).stdout

    pem = openssl("genrsa", "-traditional", "2048")
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(openssl("rsa", "-pubout", "-outform", "DER", input=pem))
    return (lambda m, domain: dkim.sign(m, b"s", domain.encode(), pem, include_headers=[b"from", b"to", b"subject"]),
            lambda m: dkim.verify(m, dnsfunc=lambda *a, **k: record))


def test_forward_survives_dkim(alpha, beta, place, signer):
    """The next host sees a sender of ours, and the signature of the first one still holds."""
    sign, verify = signer
    to, _ = beta.account()
    forward = alias(alpha, "fwd", to)
    sender = f"ann@{place.domain}"
    m = message(sender, forward)
    m = sign(m, place.domain) + m
    assert verify(m)
    key = arrive(alpha, sender, forward, m)
    got, = beta.wait_messages(to)
    path = re.match(rb"Return-Path: <([^>]*)>", got)[1].decode()
    assert re.fullmatch(rf"SRS0=[A-Z2-7]{{6}}=[A-Z2-7]{{2}}={place.domain}=ann@mx\.alpha\.test", path)
    assert got.endswith(m) and verify(got)
    assert not verify(got.replace(b"From: ", b"From: x", 1))
    assert {r["event"] for r in alpha.trace(key)} >= {"smtp.accepted", "rcpt.delivered"}
    # a sender of ours needs no rewriting
    with alpha.submit(ALICE) as s:
        s.deliver(ALICE, forward, message(ALICE, forward))
    assert beta.wait_messages(to, 2)[1].startswith(b"Return-Path: <alice@alpha.test>")


def test_bounce_through_two_forwarders(alpha, beta, place, lab):
    """ann -> alpha -> beta -> a host that refuses: what beta says reaches ann by way of alpha."""
    sender = f"ann@{place.domain}"
    last = alias(beta, "last", "gone@back.test")
    first = alias(alpha, "first", last)
    with place.sink() as ann, Sink(lab.address(14), alpha.mx, REFUSES) as refusing:
        arrive(alpha, sender, first)
        (back, rcpts, report), = wait_for(lambda: ann.mails, what="the bounce")
        seen, = {line for line in refusing.lines if line.startswith(b"MAIL")}
    path = re.search(rb"MAIL FROM:<([^>]*)>", seen)[1].decode()
    assert re.fullmatch(rf"SRS1=\w{{6}}=mx\.alpha\.test==\w{{6}}=\w\w={place.domain}=ann@mx\.beta\.test", path)
    assert back == "" and rcpts == [sender]
    assert b"550 5.1.1 not here" in report and b"gone@back.test" in report
    # the same by hand: somebody bounces to what he saw
    with place.sink() as ann:
        arrive(beta, "", path)
        (back, rcpts, _), = wait_for(lambda: ann.mails, what="the bounce of the last host")
    assert back == "" and rcpts == [sender]


def test_nobody_else_is_led_back(alpha):
    for forged in ("SRS0=AAAAAA=AA=victim.test=x", "SRS1=AAAAAA=hop.test==x=y=z", "SRS0=AAAAAA=AA=alpha.test=alice"):
        assert arrive(alpha, "", f"{forged}@mx.alpha.test").startswith("550 5.7.1")
    assert arrive(alpha, "", "SRS0=AAAAAA=AA=victim.test=x@elsewhere.test").startswith("550 5.7.1")


def test_key_turns(alpha, beta, place):
    """A bounce is taken back over one change of the key, not over two."""
    to, _ = beta.account()
    forward = alias(alpha, "turn", to)
    arrive(alpha, f"ann@{place.domain}", forward)
    got, = beta.wait_messages(to)
    path = re.match(rb"Return-Path: <([^>]*)>", got)[1].decode()
    with place.sink() as ann:
        alpha.ask("srs rotate")
        arrive(alpha, "", path.lower())
        wait_for(lambda: ann.mails)
    assert alpha.cli("srs", "rotate").returncode == 0
    assert arrive(alpha, "", path).startswith("550 5.7.1")


def test_broken_target_is_told(alpha):
    forward = alias(alpha, "half", ALICE, "nobody@alpha.test")
    key = arrive(alpha, "x@far.test", forward)
    broken, = [r for r in alpha.trace(key) if r["event"] == "mail.alias_broken"]
    assert broken["target"] == "nobody@alpha.test" and broken["status"] == "5.1.1"
    assert b"mail.alias_broken" in alpha.log_text()


# ------------------------------------------------------------------ patterns and lists

def test_patterns(alpha):
    boxes = [alpha.account()[0] for _ in range(3)]
    alias(alpha, "shop-*", boxes[0])
    alias(alpha, "shop-eu-*", boxes[1])
    alias(alpha, "*-now", boxes[2], priority="1")
    for rcpt, box in (("shop-x", 0), ("SHOP-EU-y", 1), ("shop-eu-now", 2)):
        arrive(alpha, "x@far.test", f"{rcpt}@alpha.test")
        assert len(alpha.wait_messages(boxes[box])) == 1
    assert arrive(alpha, "x@far.test", "shop@alpha.test").startswith("550 5.1.1")


def test_list_is_closed(alpha, beta):
    to, _ = beta.account()
    team = alias(alpha, "team", ALICE, to, senders="members")
    staff = alias(alpha, "staff", BOB, senders="authenticated")
    assert arrive(alpha, "x@far.test", team).startswith("550 5.7.2")
    assert arrive(alpha, ALICE, team).startswith("550 5.7.2")  # who says that he is alice
    assert arrive(alpha, to, staff).startswith("550 5.7.2")
    arrive(alpha, to, team)
    before = len(beta.wait_messages(to))
    with alpha.submit(BOB) as s:
        s.want("250", f"MAIL FROM:<{BOB}>")
        assert s.cmd(f"RCPT TO:<{team}>").startswith("550 5.7.2")
        s.want("250", f"RCPT TO:<{staff}>")
    with alpha.submit(ALICE) as s:
        s.deliver(ALICE, team, message(ALICE, team))
    beta.wait_messages(to, before + 1)


# ------------------------------------------------------------------ other domains' mail

def test_alias_domain(alpha):
    to, _ = alpha.account()
    alpha.ask("domain add", domain="alpha.example", alias_of="alpha.test")
    arrive(alpha, "x@far.test", to.replace("alpha.test", "Alpha.EXAMPLE"))
    got, = alpha.wait_messages(to)
    assert b"Delivered-To: " + to.encode() in got
    assert arrive(alpha, "x@far.test", "nobody@alpha.example").startswith("550 5.1.1")


def test_split_delivery(alpha, place):
    """While a domain moves: who is here is served here, the others by the old host, with their sender."""
    assert alpha.cli("domain", "add", "moving.test", "--unknown-to",
                     f"smtp:[{place.address}]:{place.port}").returncode == 0
    alpha.ask("account add", address="here@moving.test", password="x" * 12)
    alpha.lab.passwords["here@moving.test"] = "x" * 12
    with place.sink() as old:
        with alpha.smtp_in() as s:
            s.deliver("ann@far.test", ["here@moving.test", "there@moving.test"], message("ann@far.test", "x"))
        (sender, rcpts, _), = wait_for(lambda: old.mails)
        assert (sender, rcpts) == ("ann@far.test", ["there@moving.test"])
    assert len(alpha.wait_messages("here@moving.test")) == 1
    alpha.ask("domain set", domain="moving.test", known_only="yes")
    assert arrive(alpha, "x@far.test", "there@moving.test").startswith("550 5.1.1")
    alpha.ask("alias add", address="listed@moving.test", targets=["listed@moving.test"])
    with place.sink() as old:
        arrive(alpha, "x@far.test", "listed@moving.test")
        assert wait_for(lambda: old.mails)[0][1] == ["listed@moving.test"]


def test_backup_mx(alpha, lab):
    """Mail waits here for the better host, and never comes back to us."""
    assert arrive(alpha, "x@far.test", "y@back.test").startswith("550 5.7.1")
    assert alpha.cli("domain", "add", "back.test", "--backup").returncode == 0
    key = arrive(alpha, "x@far.test", "y@back.test")
    wait_for(lambda: [r for r in alpha.trace(key) if r["event"] == "rcpt.deferred"])
    hosts = {r["remote"] for r in alpha.trace(key) if r["event"] == "relay.connect"}
    assert hosts == {f"mx.prim.test[{lab.address(14)}]"}
    with Sink(lab.address(14), alpha.mx) as better:
        alpha.ask("queue retry", id=key)
        (sender, rcpts, _), = wait_for(lambda: better.mails)
    assert (sender, rcpts) == ("x@far.test", ["y@back.test"])
    alpha.ask("domain add", domain="alone.test", backup=True)
    key = arrive(alpha, "", "y@alone.test")
    failed, = wait_for(lambda: [r for r in alpha.trace(key) if r["event"] == "rcpt.failed"])
    assert failed["status"] == "5.4.6"
    for d in "back.test", "alone.test":
        alpha.ask("domain rm", domain=d)


# ------------------------------------------------------------------ ways out

@pytest.fixture
def routes(alpha):
    """relay.routes of alpha, set by a call and gone at the end."""
    with open(alpha.config) as f:
        before = f.read()

    def put(text):
        with open(alpha.config, "w") as f:
            f.write(before + text)
        alpha.ask("reload")

    yield put
    put("")


def wait_explained(host, part, *args):
    """The configuration is in force a moment after `reload`."""
    return wait_for(lambda: part in host.cli("explain", "rcpt", *args).stdout, what=part)


def test_routes_by_domain_and_sender(alpha, place, routes):
    way = f"smtp:[{place.address}]:{place.port}"
    routes(f"relay.routes:\n  - {{domain: .by-domain.test, to: '{way}'}}\n"
           f"  - {{sender: '{BOB}', to: '{way}'}}\n"
           "  - {domain: closed.test, to: 'refuse: ask the office first'}\n")
    wait_explained(alpha, way, "x@sub.by-domain.test", "--as", ALICE)
    with place.sink() as sink:
        with alpha.submit(ALICE) as s:
            s.deliver(ALICE, "x@sub.by-domain.test", message(ALICE, "x"))
            s.want("250", f"MAIL FROM:<{ALICE}>")
            assert s.cmd("RCPT TO:<x@closed.test>") == "550 5.7.1 ask the office first"
        with alpha.submit(BOB) as s:
            s.deliver(BOB, "x@anywhere.test", message(BOB, "x"))
        wait_for(lambda: len(sink.mails) == 2)
    assert {(m[0], *m[1]) for m in sink.mails} == {(ALICE, "x@sub.by-domain.test"), (BOB, "x@anywhere.test")}


# ------------------------------------------------------------------ explain

def test_explain_says_what_happens(alpha, beta, place):
    to, _ = beta.account()
    inner = alias(alpha, "ex-inner", to, "ex-outer@alpha.test")
    outer = alias(alpha, "ex-outer", inner, ALICE, "nobody@alpha.test")
    sender = f"ann@{place.domain}"
    rows = alpha.cli_json("explain", "rcpt", outer.upper(), "--from", sender)
    steps = [r["step"] for r in rows]
    assert steps.count("alias") == 2 and steps.count("circle") == 1 and steps.count("mail.alias_broken") == 1
    results = {r["address"]: r for r in rows if r["step"] == "result"}
    assert set(results) == {to, ALICE}
    assert results[ALICE]["kind"] == "local" and results[to]["route"] == "smtp:beta.test"
    before = len(alpha.messages(ALICE))
    arrive(alpha, sender, outer)
    got, = beta.wait_messages(to)
    assert got.startswith(b"Return-Path: <" + results[to]["reverse_path"].encode() + b">")
    alpha.wait_messages(ALICE, before + 1)

    text = alpha.cli("explain", "rcpt", "x@far.test").stdout
    assert "=> x@far.test: refused, 550 5.7.1" in text
    text = alpha.cli("explain", "rcpt", "x@far.test", "--as", ALICE).stdout
    assert "to the MX hosts of far.test, which were not asked now" in text
    assert "=> x@far.test: by smtp:far.test, MAIL FROM:<alice@alpha.test>" in text
    text = alpha.cli("explain", "rcpt", "alice+x@alpha.test").stdout
    assert "=> alice+x@alpha.test: into its mailbox here" in text
