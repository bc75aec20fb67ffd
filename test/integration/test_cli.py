"""The command line: every command, for people and with --json, and its exit codes (sysexits)."""

import json
import os
import re
import shutil

import pytest

from conftest import ZONE
from lab import Lab, message, postrider, temp_dir, wait_for

COMMANDS = ["setup", "serve", "status", "reload", "stop", "config check", "config show",
            "config manual", "domain add", "domain set", "domain rm", "domain list", "account add",
            "account set", "account passwd", "account rm", "account list", "account check",
            "account app-password add", "account app-password list", "account app-password rm",
            "alias add", "alias set", "alias rm", "alias list", "alias import", "queue list", "queue show", "queue destinations",
            "queue retry", "queue hold", "queue release", "queue reroute", "queue bounce", "queue drop", "mailq",
            "ban list", "ban add", "ban rm", "explain rcpt", "srs rotate", "trace", "report dmarc", "report tlsrpt",
            "spf check", "dkim verify", "dkim sign", "dkim key new", "dkim key list", "dkim key use", "dkim key drop", "arc verify", "arc seal", "dmarc check", "lab"]


def rows(p):
    assert p.returncode == 0, p.stderr
    return [json.loads(line) for line in p.stdout.splitlines()]


def refused(p, code):
    """One line that begins with the program's name, nothing on standard output."""
    assert p.returncode == code, (p.returncode, p.stderr)
    assert p.stdout == "" and re.fullmatch(r"postrider: .+\n", p.stderr), p.stderr
    return p.stderr


def test_the_list_of_commands_is_whole():
    p = postrider("--help")
    assert p.returncode == 0
    listed = re.findall(r"(?m)^  ([a-z]+(?: [a-z-]+){0,2})(?: [A-Z\[].*)?(?:  .*)$", p.stdout)
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each(command):
    p = postrider(*command.split(), "--help")
    assert p.returncode == 0
    assert f"postrider {command}" in p.stdout + p.stderr


@pytest.mark.parametrize("argv", [
    [], ["nonsense"], ["domain"], ["domain", "frobnicate"], ["domain", "add"],
    ["domain", "add", "a.test", "b.test"], ["--nonsense"], ["status", "--nonsense"],
    ["domain", "set", "a.test", "--from"], ["alias", "add", "a@b.test"], ["config"],
    ["--config"], ["account", "add"], ["queue", "show"], ["trace"], ["setup"], ["mailq", "--json"],
    ["queue", "reroute", "--all"], ["account", "app-password", "add", "a@b.test"],
])
def test_wrong_use(argv):
    p = postrider(*argv)
    assert p.returncode == 64, p.stderr
    assert p.stdout == "" and p.stderr


def test_version():
    p = postrider("--version")
    assert p.returncode == 0 and re.fullmatch(r"postrider \d+\.\d+\S*\n", p.stdout)


def test_no_server():
    box = temp_dir()
    try:
        for command in (["status"], ["reload"], ["stop"], ["domain", "list"], ["queue", "list"],
                        ["trace", "x"], ["account", "list"], ["alias", "list"]):
            refused(postrider("--socket", f"{box}/none.sock", *command), 69)
    finally:
        shutil.rmtree(box)


# ------------------------------------------------------------------ with a server

@pytest.fixture(scope="module")
def host():
    with Lab(zone=ZONE) as lab:
        yield lab.alpha


def test_status(host):
    text = host.cli("status")
    assert text.returncode == 0 and "mx.alpha.test" in text.stdout
    row, = rows(host.cli("status", "--json"))
    assert row["hostname"] == "mx.alpha.test" and set(row["queue"]) == \
        {"messages", "recipients", "in_delivery"}


def test_configuration_of_a_server(host):
    for argv in (["config", "check"], ["config", "show"], ["config", "manual"]):
        p = postrider("--config", host.config, *argv)
        assert p.returncode == 0 and p.stdout and not p.stderr
    row, = rows(postrider("--json", "--config", host.config, "config", "show"))
    assert row["server.hostname"] == "mx.alpha.test"
    row, = rows(postrider("--json", "--config", host.config, "config", "check"))
    assert row["ok"] is True
    p = postrider("--config", host.config, "status")  # finds the socket by itself
    assert p.returncode == 0


def test_domains(host):
    assert host.cli("domain", "add", "cli.test").returncode == 0
    refused(host.cli("domain", "add", "cli.test"), 73)
    refused(host.cli("domain", "add", "not a domain"), 64)
    assert host.cli("domain", "set", "cli.test", "--from", "any").returncode == 0
    refused(host.cli("domain", "set", "cli.test", "--from", "whoever"), 64)
    refused(host.cli("domain", "set", "absent.test", "--from", "any"), 67)
    by_name = {r["domain"]: r for r in rows(host.cli("--json", "domain", "list"))}
    assert by_name["cli.test"]["from"] == "any" and "alpha.test" in by_name
    assert "cli.test" in host.cli("domain", "list").stdout
    assert host.cli("domain", "rm", "cli.test").returncode == 0
    refused(host.cli("domain", "rm", "cli.test"), 67)
    p = host.cli("domain", "rm", "alpha.test")
    assert p.returncode not in (0, 70), "it is not empty"
    assert len(host.ask("account list", domain="alpha.test")) == 3


def test_accounts(host):
    p = host.cli("account", "add", "new@alpha.test", "--password-stdin", input="geheim-1\n")
    assert p.returncode == 0 and "new@alpha.test" in p.stdout
    host.lab.passwords["new@alpha.test"] = "geheim-1"
    host.imaplib("new@alpha.test").logout()
    refused(host.cli("account", "add", "new@alpha.test", "--password-stdin", input="x\n"), 73)
    refused(host.cli("account", "add", "x@elsewhere.test", "--password-stdin", input="x\n"), 67)
    refused(host.cli("account", "add", "no address", "--password-stdin", input="x\n"), 64)
    p = host.cli("account", "passwd", "new@alpha.test", "--password-stdin", input="geheim-2\n")
    assert p.returncode == 0, p.stderr
    with pytest.raises(Exception, match="AUTHENTICATIONFAILED"):
        host.imaplib("new@alpha.test")
    host.lab.passwords["new@alpha.test"] = "geheim-2"
    host.imaplib("new@alpha.test").logout()
    made = host.cli("account", "add", "made@alpha.test")
    password = re.search(r"[Pp]assword\S* (\S+)", made.stderr + made.stdout)[1]
    host.lab.passwords["made@alpha.test"] = password
    host.imaplib("made@alpha.test").logout()
    assert host.cli("account", "set", "made@alpha.test", "--from", "owned").returncode == 0
    listed = {r["address"]: r for r in rows(host.cli("account", "list", "--json", "alpha.test"))}
    assert listed["made@alpha.test"]["from"] == "owned" and len(listed) == 5
    assert "made@alpha.test" in host.cli("account", "list").stdout
    for argv in (["account", "check"], ["account", "check", "alice@alpha.test"]):
        p = host.cli(*argv)
        assert p.returncode == 0 and "alice@alpha.test" in p.stdout, p.stderr
        assert "alice@alpha.test" in str(rows(host.cli("--json", *argv)))
    refused(host.cli("account", "check", "nobody@alpha.test"), 67)
    for address in ("made@alpha.test", "new@alpha.test"):
        p = host.cli("account", "rm", address, "--yes")
        assert p.returncode == 0, p.stderr
    refused(host.cli("account", "rm", "made@alpha.test", "--yes"), 67)
    folders = sum(len(d) for _, d, f in os.walk(f"{host.dir}/data/accounts") if "mail.db" in f)
    assert folders == 3, "the mail of removed accounts is still there"


def test_aliases(host):
    assert host.cli("alias", "add", "team@alpha.test", "alice@alpha.test",
                    "bob@alpha.test").returncode == 0
    refused(host.cli("alias", "add", "x@elsewhere.test", "alice@alpha.test"), 67)
    row, = [r for r in rows(host.cli("--json", "alias", "list", "alpha.test"))
            if r["address"] == "team@alpha.test"]
    assert row["targets"] == ["alice@alpha.test", "bob@alpha.test"]
    assert re.search(r"team@alpha\.test.*alice.*bob", host.cli("alias", "list").stdout)
    assert host.cli("alias", "rm", "team@alpha.test").returncode == 0
    refused(host.cli("alias", "rm", "team@alpha.test"), 67)


def test_queue_and_trace(host):
    to = ["a@dead.test", "b@dead.test"]
    with host.submit("alice@alpha.test") as s:
        ids = [s.deliver("alice@alpha.test", t, message("alice@alpha.test", t)) for t in to]
    wait_for(lambda: all(q["recipients"][0]["attempts"] and not q["recipients"][0]["in_delivery"]
                         for q in host.queue()))
    listed = rows(host.cli("queue", "list", "--json"))
    assert {q["id"] for q in listed} == set(ids)
    assert [q["id"] for q in rows(host.cli("queue", "list", "--json", "--to", to[0]))] == [ids[0]]
    text = host.cli("queue", "list", "--domain", "dead.test").stdout
    assert all(t in text for t in to) and "attempts 1" in text
    assert ids[0] in host.cli("queue", "show", ids[0]).stdout
    assert rows(host.cli("--json", "queue", "show", ids[1]))[0]["from"] == "alice@alpha.test"
    refused(host.cli("queue", "show", "01m8000000000000000000000x"), 67)

    told = host.cli("trace", ids[0])
    assert told.returncode == 0 and "smtp.accepted" in told.stdout and "queue.waiting" in told.stdout
    events = [r["event"] for r in rows(host.cli("trace", "--json", ids[0]))]
    assert events.index("smtp.accepted") < events.index("queue.waiting")
    refused(host.cli("trace", "nobody@nowhere.test"), 67)

    refused(host.cli("queue", "drop"), 64)
    refused(host.cli("queue", "retry"), 64)
    p = host.cli("queue", "drop", "--all", "--dry-run")
    assert p.returncode == 0 and len(host.queue()) == 2
    p = host.cli("queue", "retry", ids[0])
    assert p.returncode == 0 and "1 recipient" in p.stdout
    wait_for(lambda: host.queue(to=to[0])[0]["recipients"][0]["attempts"] == 2)
    assert rows(host.cli("--json", "queue", "drop", "--to", to[0])) == [{"recipients": 1}]
    assert len(host.queue()) == 1
    assert host.cli("queue", "drop", "--all").returncode == 0
    assert host.queue() == []
    assert rows(host.cli("queue", "list", "--json")) == []


def test_bans(host):
    p = host.cli("ban", "add", "192.0.2.77/24", "--for", "1h")
    assert p.stdout == "192.0.2.0/24: banned\n", p.stderr
    assert "192.0.2.0/24 " in host.cli("ban", "list").stdout
    assert rows(host.cli("ban", "rm", "192.0.2.1/24", "--json")) == [{"network": "192.0.2.0/24"}]


def test_reload(host):
    assert host.cli("reload").returncode == 0
    assert host.cli("--json", "reload").returncode == 0


def test_hostile_text_is_escaped(host):
    """What peers wrote reaches the terminal as harmless text."""
    with host.submit("alice@alpha.test") as s:
        s.want("250", "RSET")
        s.want("250", "MAIL FROM:<alice@alpha.test>")
        got = s.cmd(b'RCPT TO:<"a\\\x1b[31m"@dead.test>')
        if got.startswith("250"):
            assert s.body(message("alice@alpha.test", "x")).startswith("250")
    p = host.cli("queue", "list")
    assert "\x1b" not in p.stdout
    host.cli("queue", "drop", "--all")


def test_lab_once():
    box = temp_dir()
    try:
        p = postrider("lab", "--once", "--dir", f"{box}/lab")
        assert p.returncode == 0, p.stderr
        assert "rcpt.delivered" in p.stdout and "store.append" in p.stdout
    finally:
        shutil.rmtree(box)
