"""Poison: bytes in whose parsing core died are carried unparsed from then on; one message costs one job."""

import os
import shutil
import smtplib
import time

import pytest

from lab import Lab, temp_dir, wait_for

# Where bytes of strangers are parsed.  The first message ends core there as a bug in the parser would.
PLACES = ["mail.receive.parse", "mail.authenticate", "mail.filters"]
# So that each place is passed: the sender is verified though it is this machine, and a filter is asked, though in vain.
SETTINGS = ("trust:\n  check: all\nfilter:\n  chain:\n"
            '    - {name: absent, kind: milter, address: "127.0.0.1:9", on_error: accept, timeout: 1s}\n')


def message(subject):
    return (f"From: x@elsewhere.test\r\nTo: dave@beta.test\r\nSubject: {subject}\r\n"
            "Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\n"
            'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
            f"--b\r\n\r\n{subject}\r\n--b--\r\n").encode()


def send(host, body):
    with smtplib.SMTP("127.0.0.1", host.smtp, timeout=30) as s:
        s.ehlo("client.test")
        s.sendmail("x@elsewhere.test", ["dave@beta.test"], body)


@pytest.fixture(params=PLACES)
def faulty_lab(request, monkeypatch):
    once = temp_dir()
    os.chmod(once, 0o777)
    monkeypatch.setenv("POSTRIDER_FAILPOINT", request.param + ":1:fault")
    monkeypatch.setenv("POSTRIDER_FAILPOINT_ONCE", os.path.join(once, "done"))
    with Lab() as lab:
        lab.may_die = True
        lab.beta.settings(SETTINGS)
        yield lab
    shutil.rmtree(once)


def test_a_message_that_kills_core_is_carried_unparsed(faulty_lab):
    beta = faulty_lab.beta
    core = beta.roles()["core"]
    with pytest.raises((smtplib.SMTPException, OSError)):
        send(beta, message("deadly"))
    wait_for(lambda: beta.roles().get("core") not in (None, core), what="core's return")

    def again():  # the parent may wait a moment before it starts core again
        try:
            send(beta, message("deadly"))
            return True
        except (smtplib.SMTPException, OSError):
            time.sleep(0.1)
            return False

    wait_for(again, what="the message to be taken")
    beta.wait_messages("dave@beta.test")  # nobody could say who sent it: it is not among the good ones
    stored, = beta.messages("dave@beta.test", "Junk")
    assert stored.endswith(message("deadly")), "byte for byte, though never parsed"
    assert any(r["event"] == "mail.poison" for r in beta.trace("dave@beta.test"))
    assert beta.ask("status")[0]["counters"]["poison"] == 1
    # It does not become a habit: another message is parsed again.
    send(beta, message("harmless"))
    assert len(beta.wait_messages("dave@beta.test", 2)) == 1
    assert beta.ask("status")[0]["counters"]["poison"] == 1


def test_a_killed_core_makes_nothing_suspect(monkeypatch):
    monkeypatch.setenv("POSTRIDER_FAILPOINT", PLACES[0] + ":2")
    with Lab() as lab:
        lab.may_die = True
        beta = lab.beta
        core = beta.roles()["core"]
        send(beta, message("harmless"))
        with pytest.raises((smtplib.SMTPException, OSError)):
            send(beta, message("unlucky"))
        wait_for(lambda: beta.roles().get("core") not in (None, core), what="core's return")
        wait_for(lambda: beta.ask("status"), what="core's answer")
        assert beta.ask("status")[0]["counters"]["poison"] == 0
