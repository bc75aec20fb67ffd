"""Signing of what users and programs send: alpha signs, beta and dkimpy judge."""

import os
import re
import signal
import stat
import subprocess

import dkim
import pytest

from lab import POSTRIDER, AdminError, Lab, message, temp_dir, wait_for
from test_trust import configure, results


@pytest.fixture(scope="module")
def lab():
    """The keys are made by a first run, so that the zone of the second can hold them, and the server has to find them
    again."""
    dir = temp_dir("postrider-dkim-")
    with Lab(dir=dir) as first:
        rows = first.alpha.ask("dkim key new", domain="alpha.test", type="both")
        assert [r["type"] for r in rows] == ["rsa", "ed25519"] and {r["state"] for r in rows} == {"new"}
        shown = first.alpha.cli("dkim", "key", "list", "alpha.test")
        assert rows[0]["zone"] in shown.stdout and rows[1]["zone"] in shown.stdout, shown.stdout
        unpublished = first.alpha.ask("dkim key new", domain="alpha.test")[0]["selector"]
    zone = "".join(f'{r["name"]} TXT "{r["value"]}"\n' for r in rows)
    zone += f'{unpublished}._domainkey.alpha.test TXT "{rows[0]["value"]}"\n'  # another key
    with Lab(dir=dir, zone=zone) as lab:
        lab.own_dir = True
        lab.may_die = True
        lab.rows, lab.unpublished = rows, unpublished
        lab.records = {r["name"].encode() + b".": r["value"].encode() for r in rows}
        configure(lab.beta, "check: all")
        yield lab


@pytest.fixture
def alpha(lab):
    for r in lab.rows:
        lab.alpha.ask("dkim key use", domain="alpha.test", selector=r["selector"])
    return lab.alpha


def judged(lab, raw, count=2):
    """Beta and dkimpy agree that all signatures are good."""
    field, got = results(raw)
    assert got["dkim"] == "pass" and field.count("dkim=pass") == count, field
    d = dkim.DKIM(raw)
    for n in range(count):
        assert d.verify(idx=n, dnsfunc=lambda name, **_: lab.records.get(name)), n


def submitted(lab, alpha, text, to=None, **kw):
    to = to or lab.beta.account()[0]
    sender = alpha.account()[0]
    with alpha.submit(sender) as s:
        id = s.deliver(sender, to, text(sender, to))
    return id, lab.beta.wait_messages(to)[0]


@pytest.mark.parametrize("make", [
    lambda a, b: message(a, b),
    lambda a, b: message(a, b) + (b"y" * 70 + b"\r\n") * 20000,
    lambda a, b: f"From: {a}\r\nSubject: eight bits\r\n\r\nWei\xdf\r\n".encode(),
    lambda a, b: b"Subject: nearly nothing\r\n\r\n.\r\n\r\n  \r\n\r\n",
    lambda a, b: b"no header at all\r\n",
], ids=["plain", "large", "8bit", "bare", "no-header"])
def test_submission(lab, alpha, make):
    id, raw = submitted(lab, alpha, make)
    judged(lab, raw)
    assert re.search(rb"\r\nDate: ", raw) and re.search(rb"\r\nMessage-ID: ", raw)
    for sig in re.findall(rb"DKIM-Signature: .*?\r\n(?![ \t])", raw, re.S):
        names = re.search(rb"h=([^;]*);", sig)[1].replace(b"\r\n\t", b"").lower().split(b":")
        assert names.count(b"from") == 2 and names.count(b"date") == 2 and names.count(b"message-id") == 2
    events = [e for e in wait_for(lambda: alpha.trace(id)) if e["event"] == "dkim.signed"]
    assert [(e["domain"], e["selector"]) for e in events] == [("alpha.test", r["selector"]) for r in
                                                              sorted(lab.rows, key=lambda r: r["selector"])]


def test_sendmail(lab, alpha):
    to = lab.beta.account()[0]
    env = {**os.environ, "POSTRIDER_CONFIG": os.path.join(alpha.dir, "postrider.yaml")}
    link = os.path.join(lab.dir, "sendmail")
    os.path.lexists(link) or os.symlink(POSTRIDER, link)
    p = subprocess.run([link, "-fcron@alpha.test", to], input=b"Subject: cron\n\nran\n", env=env, capture_output=True)
    assert p.returncode == 0, p.stderr
    judged(lab, lab.beta.wait_messages(to)[0])


def test_who_is_not_signed(lab, alpha):
    """What comes from outside, even if it says that it is ours."""
    to = alpha.account()[0]
    with alpha.smtp_in() as s:
        s.deliver("x@alpha.test", to, message("x@alpha.test", to))
    assert b"DKIM-Signature" not in alpha.wait_messages(to)[0]


def test_one_key(lab, alpha):
    """Without the ed25519 key there is one signature; without any, none."""
    rsa, ed = (r["selector"] for r in lab.rows)
    with pytest.raises(AdminError, match="signs"):
        alpha.ask("dkim key drop", domain="alpha.test", selector=ed)
    new = alpha.ask("dkim key new", domain="alpha.test", type="ed25519")[0]
    alpha.ask("dkim key use", domain="alpha.test", selector=new["selector"], force=True)
    states = {r["selector"]: r["state"] for r in alpha.ask("dkim key list")}
    assert states[ed] == "retired" and states[new["selector"]] == "active" and states[rsa] == "active"
    alpha.ask("dkim key drop", domain="alpha.test", selector=new["selector"], force=True)
    assert not any(new["selector"] in f for f in os.listdir(os.path.join(alpha.dir, "data/keys")))
    judged(lab, submitted(lab, alpha, message)[1], count=1)


def test_use_asks_dns(lab, alpha):
    for selector, why in ((lab.unpublished, "another key"), ("nosuch", "no DKIM key")):
        with pytest.raises(AdminError, match=why):
            alpha.ask("dkim key use", domain="alpha.test", selector=selector)
    fresh = alpha.ask("dkim key new", domain="alpha.test")[0]["selector"]
    p = alpha.cli("dkim", "key", "use", "alpha.test", fresh)
    assert p.returncode == 64 and "no such record" in p.stderr, p.stderr
    alpha.ask("dkim key drop", domain="alpha.test", selector=fresh)


def test_files(lab, alpha):
    folder = os.path.join(alpha.dir, "data/keys")
    files = os.listdir(folder)
    assert len(files) >= 3
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    for f in files:
        assert stat.S_IMODE(os.stat(os.path.join(folder, f)).st_mode) == 0o600, f


def test_keys_restart(lab, alpha):
    """Mail waits for the signer; none goes without."""
    sender, to = alpha.account()[0], lab.beta.account()[0]
    pid = alpha.roles()["keys"]
    with alpha.submit(sender) as s:
        os.kill(pid, signal.SIGSTOP)  # the question is under way when it dies
        s.envelope(sender, to)
        s.want("354", "DATA")
        s.send(message(sender, to) + b".\r\n")
        wait_for(lambda: alpha.ask("status"))
        os.kill(pid, signal.SIGKILL)
        got = s.reply()
        assert got.startswith("451 4.7.5"), got
        wait_for(lambda: alpha.roles().get("keys", pid) != pid, what="keys")

        def again():
            s.envelope(sender, to)
            return s.body(message(sender, to)).startswith("250")
        wait_for(again, what="a signature")
    raw, = lab.beta.wait_messages(to)
    judged(lab, raw)


def test_key_is_lost(lab, alpha):
    """An active key without its file: no mail of the domain leaves, and the list says so."""
    sender, to = alpha.account()[0], lab.beta.account()[0]
    new = alpha.ask("dkim key new", domain="alpha.test")[0]["selector"]
    alpha.ask("dkim key use", domain="alpha.test", selector=new, force=True)
    os.unlink(os.path.join(alpha.dir, "data/keys", f"{new}._domainkey.alpha.test.pem"))
    pid = alpha.roles()["keys"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: alpha.roles().get("keys", pid) != pid, what="keys")
    wait_for(lambda: [r["selector"] for r in alpha.ask("dkim key list") if "error" in r] == [new], what="the one that is lost")
    with alpha.submit(sender) as s:
        s.envelope(sender, to)
        assert s.body(message(sender, to)).startswith("451 4.7.5")
    alpha.ask("dkim key drop", domain="alpha.test", selector=new, force=True)
