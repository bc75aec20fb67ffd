"""Other people's servers as the end of a way out: Dovecot by LMTP, Exim as a smart host that wants a login."""

import os

import peers
import pytest
from lab import message, wait_for

SECRET = "s3cret=,x"


@pytest.fixture(scope="module")
def dovecot(roots, lab):
    with peers.Dovecot(roots, lab.address(30), lab.alpha.mx) as it:
        yield it.configure().start()


@pytest.fixture(scope="module")
def smart(roots, lab):
    """Takes mail for its own domain from those who log in; alpha knows it by three names."""
    with open(f"{lab.dir}/smart", "w") as f:
        f.write(SECRET + "\n")
    with open(f"{lab.dir}/guess", "w") as f:
        f.write("guess\n")
    host = f'host: "{lab.address(31)}", port: {lab.alpha.mx}, tls: must'
    lab.alpha.settings("relay:\n  hosts:\n"
                       f"    - {{name: smart, {host}, user: alpha, password_file: {lab.dir}/smart}}\n"
                       f"    - {{name: guess, {host}, user: alpha, password_file: {lab.dir}/guess}}\n"
                       f"    - {{name: nobody, {host}}}\n"
                       "  routes:\n"
                       '    - {domain: smart.test, to: "via:smart"}\n'
                       '    - {domain: guess.test, to: "via:guess"}\n'
                       '    - {domain: nobody.test, to: "via:nobody"}\n'
                       f'    - {{domain: store.test, to: "lmtp:[{lab.address(30)}]:{lab.alpha.mx}"}}\n')
    with peers.Exim(roots, lab.address(31), lab.alpha.mx) as it:
        yield it.configure("smart.test", {}, lab.ca, ["ed"], {}, ("alpha", SECRET)).start()


def submit(host, to):
    sent = message("alice@alpha.test", to)
    with host.submit("alice@alpha.test") as s:
        return sent, s.deliver("alice@alpha.test", to, sent)


def event(host, trace, name):
    return wait_for(lambda: [r for r in host.trace(trace) if r["event"] == name], what=name)[-1]


def test_dovecot_by_lmtp(lab, dovecot, smart):
    box = dovecot.path("var", "vmail", "dora", "Maildir", "new")
    sent, trace = submit(lab.alpha, "dora@store.test")
    name, = wait_for(lambda: os.path.isdir(box) and os.listdir(box), what=f"mail at Dovecot\n{dovecot.log_text()}")
    with open(os.path.join(box, name), "rb") as f:
        assert f.read().replace(b"\n", b"\r\n").endswith(sent)
    assert event(lab.alpha, trace, "rcpt.delivered")["reply"].startswith("250 2.0.0 <dora@store.test>")


def test_many_at_dovecot(lab, dovecot, smart):
    """One transaction, an answer for each."""
    to = [f"box{i}@store.test" for i in range(5)]
    with lab.alpha.submit("alice@alpha.test") as s:
        trace = s.deliver("alice@alpha.test", to, message("alice@alpha.test", to[0]))
    rows = wait_for(lambda: (lambda r: r if len(r) == 5 else None)(
        [r for r in lab.alpha.trace(trace) if r["event"] == "rcpt.delivered"]))
    assert sorted(r["to"] for r in rows) == to
    assert all(f"<{r['to']}>" in r["reply"] for r in rows)


def test_exim_wants_a_login(lab, smart):
    sent, trace = submit(lab.alpha, "ed@smart.test")
    got, = wait_for(lambda: smart.maildir("ed"), what=f"mail at Exim\n{smart.log_text()}")
    assert got.replace(b"\n", b"\r\n").endswith(sent)
    assert event(lab.alpha, trace, "relay.connect")["auth"] == "PLAIN"
    assert "A=plain:alpha" in smart.log_text()


def test_exim_does_not_know_us(lab, smart):
    """A wrong password waits for a right one; to send without any is refused."""
    _, trace = submit(lab.alpha, "ed@guess.test")
    waits = wait_for(lambda: [r for q in lab.alpha.queue(id=trace) for r in q["recipients"] if r["status"]])[0]
    assert waits["status"] == "4.7.0" and "535" in waits["reply"]
    lab.alpha.ask("queue drop", id=trace)
    _, trace = submit(lab.alpha, "ed@nobody.test")
    assert event(lab.alpha, trace, "rcpt.failed")["reply"].startswith("550")
