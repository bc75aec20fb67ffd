"""sendmail(1), mailq(1) and newaliases(1): what cron, git and PHP call."""

import email
import os
import pwd
import smtplib
import subprocess

import pytest

from lab import POSTRIDER, wait_for


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """The program under its other names."""
    box = tmp_path_factory.mktemp("bin")
    for name in ("sendmail", "mailq", "newaliases"):
        os.symlink(POSTRIDER, box / name)
    return box


@pytest.fixture
def sendmail(names, alpha):
    def run(*argv, text="Subject: x\n\nhello\n", name="sendmail"):
        env = {**os.environ, "POSTRIDER_CONFIG": os.path.join(alpha.dir, "postrider.yaml")}
        return subprocess.run([str(names / name), *argv], input=text.encode(), env=env, capture_output=True, timeout=60)
    return run


@pytest.fixture
def alpha(lab):
    return lab.alpha


def me():
    return pwd.getpwuid(os.getuid()).pw_name


def test_to_a_mailbox(alpha, sendmail):
    to = alpha.account()[0]
    p = sendmail(to, text="Subject: from a program\nBcc: secret@alpha.test\n\n.hidden dot\nend\n.\nnot this\n")
    assert p.returncode == 0, p.stderr
    raw = alpha.wait_messages(to)[0]
    assert raw.endswith(b"\r\n\r\n.hidden dot\r\nend\r\n") and b"secret" not in raw
    m = email.message_from_bytes(raw)
    assert m["From"] and me() + "@" in m["From"] and m["Date"] and m["Message-ID"]
    assert f"uid {os.getuid()}" in m["Received"], m["Received"]


def test_recipients_of_the_header(alpha, sendmail):
    one, two, three = (alpha.account()[0] for _ in range(3))
    p = sendmail("-t", "-oi", "-fsender@elsewhere.test", "-FA Program",
                 text=f"To: {one},\n  {two}\nBcc: {three}\nSubject: s\n\nx\n.\ny\n")
    assert p.returncode == 0, p.stderr
    for to in (one, two, three):
        raw = alpha.wait_messages(to)[0]
        assert b"Return-Path: <sender@elsewhere.test>" in raw and b"\r\n.\r\ny\r\n" in raw and b"Bcc" not in raw
        assert b"From: A Program <sender@elsewhere.test>" in raw


def test_to_another_host(lab, sendmail):
    to = lab.beta.account()[0]
    assert sendmail("-N", "success", "-V", "id 1", "-i", to).returncode == 0
    assert lab.beta.wait_messages(to)


@pytest.mark.parametrize("argv,code,word", [
    (["nobody-at-all@alpha.test"], 67, b"5.1.1"),
    ([], 64, b"recipient"),
    (["a b@c"], 64, b"not an address"),
    (["-bd"], 64, b"not a server"),
    (["-N", "never\r\nQUIT", "a@alpha.test"], 64, b"-N is"),
    (["-R", "full BODY=7BIT", "a@alpha.test"], 64, b"-R is"),
])
def test_exit_codes(sendmail, argv, code, word):
    p = sendmail(*argv)
    assert p.returncode == code and word in p.stderr and p.stderr.count(b"\n") == 1, p


def test_one_of_two_is_refused(alpha, sendmail):
    to = alpha.account()[0]
    p = sendmail(to, "nobody-at-all@alpha.test")
    assert p.returncode == 67 and b"nobody-at-all" in p.stderr
    assert alpha.wait_messages(to)


def test_server_is_down(names, tmp_path):
    (tmp_path / "c.yaml").write_text(f"server:\n  hostname: mx.example.test\n  data: {tmp_path}\n")
    p = subprocess.run([str(names / "sendmail"), "-C", str(tmp_path / "c.yaml"), "a@b.test"], input=b"x\n",
                       capture_output=True)
    assert p.returncode == 75 and b"running" in p.stderr


def test_smtp_on_standard_input(alpha, sendmail):
    to = alpha.account()[0]
    p = sendmail("-bs", text=f"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<{to}>\r\nDATA\r\nSubject: x\r\n\r\nhi\r\n.\r\nQUIT\r\n")
    assert p.returncode == 0 and b"AUTH" not in p.stdout and b"STARTTLS" not in p.stdout, p.stdout
    assert p.stdout.count(b"\r\n250 ") >= 3 and b"\r\n221 " in p.stdout
    assert alpha.wait_messages(to)


@pytest.mark.skipif(os.getuid() != 0, reason="changes its user")
def test_other_users(alpha, names):
    """Who calls is known by the kernel's word; the socket is open to all."""
    to = alpha.account()[0]
    path = os.path.join(alpha.dir, "data", "submit.sock")

    def demote():
        os.setuid(65534)
    script = ("import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\nf=s.makefile('rwb')\nf.readline()\n"
              "for l in ['HELO x','MAIL FROM:<n@x.test>','RCPT TO:<%s>'%sys.argv[2],'DATA','X: y\\r\\n\\r\\n.','QUIT']:\n"
              "  f.write(l.encode()+b'\\r\\n');f.flush();print(f.readline())\n")
    for d in (alpha.dir, alpha.lab.dir):
        os.chmod(d, 0o711)
    p = subprocess.run(["/usr/bin/python3", "-c", script, path, to], preexec_fn=demote, capture_output=True)
    assert p.returncode == 0, p.stderr
    assert b"uid 65534" in alpha.wait_messages(to)[0]


def test_mailq(alpha, sendmail):
    assert sendmail(name="mailq").stdout == b"Mail queue is empty\n"
    assert sendmail("-fme@alpha.test", "x@dead.test", "y@dead.test").returncode == 0
    wait_for(lambda: b"(" in sendmail("-bp").stdout)
    lines = sendmail(name="mailq").stdout.decode().splitlines()
    assert lines[0] == "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------"
    assert lines[1].endswith("  me@alpha.test") and lines[2].startswith("(")
    assert [line.strip() for line in lines[3:5]] == ["x@dead.test", "y@dead.test"]
    assert lines[-1].startswith("-- ") and lines[-1].endswith("in 1 Request.")
    assert sendmail("-q").returncode == 0
    alpha.ask("queue drop", all=True)


def test_aliases(alpha, names, tmp_path):
    a, b = alpha.account()[0], alpha.account()[0]
    path = tmp_path / "aliases"
    path.write_text(f"# comment\npostmaster: root\nroot:   {a},\n   {b}\n\"ops\": \\{a.split('@')[0]}\n"
                    "prog: \"|/bin/sh -c x\"\nfile: /var/mail/x\nlist: :include:/etc/list, " + a + "\nnonsense\n")
    dry = alpha.cli("--dry-run", "alias", "import", str(path), "--domain", "alpha.test")
    assert dry.returncode == 0 and "would be: 3 added, 1 changed" in dry.stdout, dry
    p = alpha.cli("alias", "import", str(path), "--domain", "alpha.test")
    assert p.returncode == 0 and "3 added, 1 changed" in p.stdout and p.stderr.count(str(path)) == 4, p
    rows = {r["address"]: r["targets"] for r in alpha.ask("alias list")}
    assert rows["root@alpha.test"] == [a, b] and rows["ops@alpha.test"] == [a] and rows["list@alpha.test"] == [a]
    path.write_text(f"root: {b}\npostmaster: root\n")
    p = alpha.cli("alias", "import", str(path), "--domain", "alpha.test")
    assert "0 added, 1 changed, 1 as they were" in p.stdout, p
    with smtplib.SMTP("127.0.0.1", alpha.smtp) as s:
        s.sendmail("x@elsewhere.test", "postmaster@alpha.test", "Subject: s\r\n\r\nhi\r\n")
    assert alpha.wait_messages(b)
    assert not alpha.messages(a)


def test_log_for_old_tools(lab, alpha, sendmail):
    """pflogsumm reads our log, and its sums are right."""
    path = os.path.join(alpha.dir, "postrider.yaml")
    with open(path) as f:
        old = f.read()
    with open(path, "w") as f:
        f.write(old + "\nlog:\n  format: maillog\n")
    log = os.path.join(alpha.dir, "log")
    before = os.path.getsize(log)
    try:
        assert alpha.cli("reload").returncode == 0
        here, there = alpha.account()[0], lab.beta.account()[0]
        for to in (here, there):
            assert sendmail("-fme@alpha.test", to).returncode == 0
        assert sendmail("-fme@alpha.test", "nobody-at-all@alpha.test").returncode == 67
        assert sendmail("-fme@alpha.test", "x@fail.test").returncode == 0

        def lines():
            with open(log, "rb") as f:
                f.seek(before)
                return f.read().decode()
        wait_for(lambda: "status=deferred" in lines() and lines().count("status=sent") == 2)
    finally:
        with open(path, "w") as f:
            f.write(old)
        alpha.cli("reload")
        alpha.ask("queue drop", all=True)
    p = subprocess.run(["pflogsumm", "--syslog-name=postrider"], input=lines(), text=True, capture_output=True)
    assert p.returncode == 0, p.stderr
    totals = dict(line.split(None, 1)[::-1] for line in p.stdout.split("Grand Totals")[1].splitlines()
                  if line.strip() and line.split()[0].isdigit() and " " in line.strip())
    totals = {k.split("(")[0].strip(): v for k, v in totals.items()}
    assert totals["received"] == "3" and totals["delivered"] == "2" and totals["deferred"] == "1", p.stdout
    assert totals["rejected"] == "1", p.stdout
    assert here in p.stdout and there in p.stdout
