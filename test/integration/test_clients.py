"""Mail programs that other people wrote, each with TLS verified against the lab's CA.

What they send must arrive, what they fetch must be what was stored."""

import email
import os
import pty
import re
import shutil
import subprocess
import threading
import uuid

import pytest

from lab import message, run, temp_dir, wait_for


@pytest.fixture
def box():
    """A private directory for a client's files."""
    path = temp_dir("postrider-client-")
    os.chmod(path, 0o700)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def write(path, text, mode=0o600):
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


def done(p):
    assert p.returncode == 0, f"{p.args}\n{p.stdout}\n{p.stderr}"
    return p.stdout


def arrived(host, address, token, mailbox="INBOX"):
    """The one message of ADDRESS that has TOKEN in it."""
    def look():
        return [m for m in host.messages(address, mailbox) if token.encode() in m]
    found = wait_for(look, what=f"{token} at {address}")
    assert len(found) == 1
    return found[0]


# ------------------------------------------------------------------ sending

@pytest.mark.parametrize("how", ["submission", "submissions"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks(lab, alpha, beta, how, mechanism):
    to, _ = beta.account()
    token = uuid.uuid4().hex
    out = done(run(["swaks", "--server", "127.0.0.1", "--port", getattr(alpha, how),
                    "--tls" if how == "submission" else "--tlsc", "--tls-verify",
                    "--tls-ca-path", lab.ca,
                    "--auth", mechanism, "--auth-user", "alice@alpha.test",
                    "--auth-password", alpha.password("alice@alpha.test"),
                    "--from", "alice@alpha.test", "--to", to, "--header", "Subject: " + token]))
    assert "TLS started" in out
    assert "verified=" not in out or "verified=0" not in out
    assert token.encode() in arrived(beta, to, token)


def test_swaks_does_not_trust_another_ca(alpha):
    p = run(["swaks", "--server", "127.0.0.1", "--port", alpha.submissions, "--tlsc",
             "--tls-verify", "--tls-ca-path", "/etc/ssl/certs/ca-certificates.crt",
             "--quit-after", "EHLO"])
    assert p.returncode != 0, "the check of certificates in these tests checks nothing"


@pytest.mark.parametrize("how", ["submission", "submissions"])
def test_msmtp(lab, alpha, beta, box, how):
    to, _ = beta.account()
    token = uuid.uuid4().hex
    rc = write(f"{box}/msmtprc", f"""
account default
host localhost
port {getattr(alpha, how)}
from alice@alpha.test
auth on
user alice@alpha.test
password {alpha.password("alice@alpha.test")}
tls on
tls_starttls {"on" if how == "submission" else "off"}
tls_trust_file {lab.ca}
""")
    done(run(["msmtp", "-C", rc, to],
             input=f"From: alice@alpha.test\nTo: {to}\nSubject: {token}\n\n.dot\n..dots\nlast"))
    got = arrived(beta, to, token)
    assert got.endswith(b"\r\n\r\n.dot\r\n..dots\r\nlast\r\n")


def test_msmtp_negotiates_scram(lab, alpha):
    p = run(["msmtp", "--serverinfo", "--host=localhost", f"--port={alpha.submissions}", "--tls",
             "--tls-starttls=off", f"--tls-trust-file={lab.ca}"])
    assert "SCRAM-SHA-256" in done(p)


@pytest.mark.parametrize("scheme, port", [("smtp", "submission"), ("smtps", "submissions")])
def test_curl_sends(lab, alpha, beta, box, scheme, port):
    to, _ = beta.account()
    token = uuid.uuid4().hex
    letter = write(f"{box}/letter", f"From: alice@alpha.test\r\nTo: {to}\r\nSubject: {token}\r\n"
                                    "\r\nby curl\r\n")
    done(run(["curl", "-sS", "--ssl-reqd", "--cacert", lab.ca,
              f"{scheme}://localhost:{getattr(alpha, port)}/client.test",
              "-u", "alice@alpha.test:" + alpha.password("alice@alpha.test"),
              "--mail-from", "alice@alpha.test", "--mail-rcpt", to, "-T", letter]))
    assert arrived(beta, to, token).endswith(b"\r\n\r\nby curl\r\n")


@pytest.mark.parametrize("starttls", [True, False])
def test_smtplib(alpha, beta, starttls):
    to, _ = beta.account()
    token = uuid.uuid4().hex
    with alpha.smtplib("alice@alpha.test", starttls) as c:
        refused = c.sendmail("alice@alpha.test", [to, "bob@alpha.test"],
                             message("alice@alpha.test", to, token))
    assert refused == {}
    arrived(beta, to, token)
    arrived(alpha, "bob@alpha.test", token)


# ------------------------------------------------------------------ fetching

def fill(host, n=3):
    """An account with N messages in INBOX, and these."""
    address, password = host.account()
    sent = [message("x@sink.test", address, f"number {i}", f"line {i}\r\n.\r\n..dots\r\n")
            for i in range(n)]
    with host.imap_raw(address) as c:
        for m in sent:
            assert c.append("INBOX", m).startswith(b"OK")
    return address, password, sent


@pytest.mark.parametrize("scheme, port", [("imap", "imap"), ("imaps", "imaps"), ("pop3", "pop3"),
                                          ("pop3s", "pop3s")])
def test_curl_fetches(lab, beta, scheme, port):
    address, password, sent = fill(beta)
    path = "INBOX;MAILINDEX=2" if scheme.startswith("imap") else "2"
    out = done(run(["curl", "-sS", "--ssl-reqd", "--cacert", lab.ca, "-u", f"{address}:{password}",
                    f"{scheme}://localhost:{getattr(beta, port)}/{path}"]))
    assert out.replace("\r\n", "\n").strip() == sent[1].decode().replace("\r\n", "\n").strip()


def test_curl_appends_and_searches(lab, beta, box):
    address, password, sent = fill(beta, 1)
    letter = write(f"{box}/letter", message("x@y.test", address, "put by curl").decode())
    base = ["curl", "-sS", "--ssl-reqd", "--cacert", lab.ca, "-u", f"{address}:{password}"]
    done(run([*base, f"imaps://localhost:{beta.imaps}/INBOX", "-T", letter]))
    found = done(run([*base, f"imaps://localhost:{beta.imaps}/INBOX?SUBJECT%20curl"]))
    assert re.search(r"\* SEARCH 2\b", found), found


@pytest.mark.parametrize("starttls", [True, False])
def test_imaplib(beta, starttls):
    address, password, sent = fill(beta)
    c = beta.imaplib(address, starttls)
    assert c.select()[1] == [b"3"]
    assert [d[1] for d in c.fetch("1:*", "(RFC822)")[1] if isinstance(d, tuple)] == sent
    assert c.create("Archive/2026")[0] == "OK"
    assert c.uid("COPY", "2", "Archive/2026")[0] == "OK"
    assert c.store("1", "+FLAGS", r"(\Deleted)")[0] == "OK"
    assert c.expunge()[1] == [b"1"]
    assert c.search(None, "SEEN")[1] == [b"1 2"]
    c.logout()
    assert beta.messages(address, "Archive/2026") == [sent[1]]
    assert beta.messages(address) == sent[1:]


@pytest.mark.parametrize("stls", [True, False])
def test_poplib(beta, stls):
    address, password, sent = fill(beta)
    c = beta.poplib(address, stls)
    assert c.stat() == (3, sum(map(len, sent)))
    for i, m in enumerate(sent, 1):
        assert b"\r\n".join(c.retr(i)[1]) + b"\r\n" == m
    c.dele(2)
    c.quit()
    assert beta.messages(address) == [sent[0], sent[2]]


def mbsync_config(lab, host, address, password, box):
    os.makedirs(f"{box}/mail", exist_ok=True)
    return write(f"{box}/mbsyncrc", f"""
IMAPAccount lab
Host localhost
Port {host.imaps}
User {address}
Pass {password}
SSLType IMAPS
CertificateFile {lab.ca}

IMAPStore far
Account lab

MaildirStore near
Path {box}/mail/
Inbox {box}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
Sync All
SyncState *
""")


def maildir(path):
    """name of file -> (flags, content with CRLF)"""
    out = {}
    for sub in ("cur", "new"):
        for name in os.listdir(f"{path}/{sub}"):
            with open(f"{path}/{sub}/{name}", "rb") as f:
                content = f.read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            flags = name.split(":2,")[1] if ":2," in name else ""
            out[f"{path}/{sub}/{name}"] = (flags, content)
    return out


def test_mbsync_both_ways(lab, beta, box):
    address, password, sent = fill(beta, 5)
    rc = mbsync_config(lab, beta, address, password, box)

    def sync():
        done(run(["mbsync", "-c", rc, "-a"], env=dict(os.environ, HOME=box)))

    c = beta.imaplib(address)
    c.create("Lists/C")
    c.append("Lists/C", r"(\Flagged)", None, sent[0])
    c.select()
    c.store("1", "+FLAGS", r"(\Seen \Answered)")
    sync()
    near = maildir(f"{box}/mail/INBOX")

    def body(m):  # mbsync adds a field of its own to what it carries
        return re.sub(rb"X-TUID: [^\r]*\r\n", b"", m)
    assert sorted(body(m) for _, m in near.values()) == sorted(sent)
    assert [f for f, m in near.values() if body(m) == sent[0]] == ["RS"]
    assert [f for f, _ in maildir(f"{box}/mail/Lists/C").values()] == ["F"]

    # near: flag one, delete one, add one, make a mailbox; far: delete one
    path = [p for p, (f, m) in near.items() if body(m) == sent[1]][0]
    os.rename(path, f"{box}/mail/INBOX/cur/" + os.path.basename(path).split(":2,")[0] + ":2,FS")
    path = [p for p, (f, m) in near.items() if body(m) == sent[2]][0]
    os.unlink(path)
    os.makedirs(f"{box}/mail/Near/cur")
    os.makedirs(f"{box}/mail/Near/new")
    os.makedirs(f"{box}/mail/Near/tmp")
    fresh = message("me@near.test", address, "written offline")
    write(f"{box}/mail/Near/cur/1700000000.1_1.host:2,DS", fresh.decode().replace("\r\n", "\n"))
    c.store("5", "+FLAGS", r"(\Deleted)")
    c.expunge()
    sync()
    c.select()
    uids = c.uid("SEARCH", None, "ALL")[1][0].split()
    assert len(uids) == 3
    assert c.uid("SEARCH", None, "FLAGGED SEEN")[1] == [b"2"]
    assert [body(m) for m in beta.messages(address, "Near")] == [fresh]
    c.select("Near")
    assert rb"\Draft" in c.fetch("1", "(FLAGS)")[1][0]
    near = maildir(f"{box}/mail/INBOX")
    assert sorted(body(m) for _, m in near.values()) == sorted([sent[0], sent[1], sent[3]])
    before = sorted(near)
    sync()  # nothing is left to do
    assert sorted(maildir(f"{box}/mail/INBOX")) == before
    assert c.select()[1] == [b"3"]
    c.logout()


@pytest.mark.parametrize("protocol, port, options", [
    ("imap", "imaps", "ssl"), ("imap", "imap", "sslproto 'TLS1.2+'"),
    ("pop3", "pop3s", "ssl"), ("pop3", "pop3", "sslproto 'TLS1.2+'")])
def test_fetchmail(lab, beta, box, protocol, port, options):
    address, password, sent = fill(beta)
    mda = write(f"{box}/mda", f"#!/bin/sh\ncat >> {box}/inbox\necho ==== >> {box}/inbox\n", 0o700)
    rc = write(f"{box}/fetchmailrc", f"""
poll localhost port {getattr(beta, port)} protocol {protocol} auth password
  user "{address}" password "{password}" is "nobody" here
  {options} sslcertck sslcertfile "{lab.ca}" no rewrite fetchall mda "{mda}"
""")
    p = run(["fetchmail", "-f", rc, "--nodetach", "--nosyslog", "-i", f"{box}/ids",
             "--pidfile", f"{box}/pid"], env=dict(os.environ, HOME=box, FETCHMAILHOME=box))
    assert p.returncode == 0, p.stdout + p.stderr
    with open(f"{box}/inbox") as f:
        got = f.read().split("====\n")[:-1]
    assert len(got) == 3
    for mine, theirs in zip(sent, got):
        want, have = email.message_from_bytes(mine), email.message_from_string(theirs)
        assert have["Message-ID"] == want["Message-ID"]
        assert have.get_payload() == want.get_payload().replace("\r\n", "\n")
    assert beta.messages(address) == [], "fetchmail removes what it has fetched"


def mutt(lab, box, *argv, **kw):
    rc = write(f"{box}/muttrc", f"""
set ssl_force_tls=yes
set certificate_file={lab.ca}
set ssl_verify_host=yes
set copy=no
set folder={box}
set header_cache=
set realname="Alice"
set use_from=yes
set envelope_from=yes
""")
    return subprocess.Popen(["mutt", "-n", "-F", rc, *argv],
                            env=dict(os.environ, HOME=box, TERM="xterm"), **kw)


@pytest.mark.parametrize("scheme, port", [("smtp", "submission"), ("smtps", "submissions")])
def test_mutt_sends(lab, alpha, beta, box, scheme, port):
    to, _ = beta.account()
    token = uuid.uuid4().hex
    url = f"{scheme}://alice%40alpha.test@localhost:{getattr(alpha, port)}/"
    attached = write(f"{box}/note.txt", "attached\n")
    p = mutt(lab, box, "-e", f'set smtp_url="{url}"',
             "-e", f'set smtp_pass="{alpha.password("alice@alpha.test")}"',
             "-e", "set from=alice@alpha.test", "-s", token, "-a", attached, "--", to,
             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    out, _ = p.communicate("by mutt\n", timeout=60)
    assert p.returncode == 0, out
    got = email.message_from_bytes(arrived(beta, to, token))
    assert [p.get_content_type() for p in got.walk()] == \
        ["multipart/mixed", "text/plain", "text/plain"]
    assert got["From"] == "Alice <alice@alpha.test>"


def test_mutt_reads(lab, beta, box):
    """Mutt wants a terminal to read with: it gets one, and its keys from the command line."""
    address, password, sent = fill(beta)
    url = f"imaps://{address.replace('@', '%40')}@localhost:{beta.imaps}/INBOX"
    ours, its = pty.openpty()
    p = mutt(lab, box, "-e", f'set imap_pass="{password}"',
             "-e", "set confirmcreate=no confirmappend=no wait_key=no move=no quit=yes",
             "-e", f"push '<tag-pattern>~A<enter><tag-prefix><copy-message><kill-line>{box}/copied<enter>"
                   "<first-entry><flag-message><quit>'",
             "-f", url, stdin=its, stdout=its, stderr=its, start_new_session=True)
    screen = []
    drain = threading.Thread(target=read_all, args=(ours, screen), daemon=True)
    drain.start()
    os.close(its)
    try:
        assert p.wait(30) == 0
    except (AssertionError, subprocess.TimeoutExpired):
        pytest.fail(f"mutt shows {b''.join(screen)[-1000:]}")
    finally:
        p.kill()
        p.wait()
        drain.join(5)
        os.close(ours)
    with open(f"{box}/copied") as f:
        text = f.read()
    for i in range(3):
        assert f"Subject: number {i}\n" in text and f"line {i}\n" in text
    c = beta.imaplib(address)
    c.select()
    assert c.search(None, "FLAGGED")[1] != [b""]
    c.logout()


def read_all(fd, into):
    try:
        while True:
            into.append(os.read(fd, 65536))
    except OSError:
        pass
