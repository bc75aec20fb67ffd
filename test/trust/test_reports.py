"""postrider report: files as they come, and every sample of others against sums that Python makes."""

import gzip
import io
import json
import os
import re
import subprocess
import zipfile
from email.message import EmailMessage

import pytest

from suites import POSTRIDER

XML = ("<?xml version='1.0'?><feedback><report_metadata><org_name>o</org_name></report_metadata><policy_published>"
       "<domain>a.test</domain><p>none</p></policy_published>" +
       "".join(f"<record><row><source_ip>192.0.2.{n}</source_ip><count>{n}</count><policy_evaluated><dkim>{d}</dkim>"
               f"<spf>fail</spf></policy_evaluated></row></record>" for n, d in ((1, "pass"), (2, "fail"))) +
       "</feedback>").encode()


def report(kind, path):
    p = subprocess.run([POSTRIDER, "--json", "report", kind, str(path)], capture_output=True, text=True)
    return p.returncode, json.loads(p.stdout) if p.stdout else p.stderr


def zipped(data, method=zipfile.ZIP_DEFLATED):
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w", method) as z:
        z.writestr("r.xml", data)
    return b.getvalue()


def mail(data, name, subtype):
    m = EmailMessage()
    m["From"], m["Subject"] = "r@o.test", "Report"
    m.set_content("see the attachment")
    m.add_attachment(data, "application", subtype, filename=name)
    return m.as_bytes()


@pytest.mark.parametrize("data", [
    XML, b"\xef\xbb\xbf" + XML, gzip.compress(XML), gzip.compress(XML[:100]) + gzip.compress(XML[100:]), zipped(XML),
    zipped(XML, zipfile.ZIP_STORED), mail(XML, "r.xml", "xml"), mail(gzip.compress(XML), "r.xml.gz", "gzip"),
    mail(zipped(XML), "r.zip", "zip"),
], ids=["xml", "bom", "gzip", "members", "zip", "stored", "mail", "mail-gzip", "mail-zip"])
def test_forms(tmp_path, data):
    path = tmp_path / "r"
    path.write_bytes(data)
    code, got = report("dmarc", path)
    assert code == 0, got
    assert (got["domain"], got["messages"], got["passed"], len(got["records"])) == ("a.test", 3, 1, 2)


def bomb():
    """600 MB of one byte in 600 KB."""
    return gzip.compress(b"<feedback>" + b" " * 600_000_000, 9)


@pytest.mark.parametrize("data,word", [
    (b"", "no such report"), (b"hello\n", "no such report"), (gzip.compress(XML)[:60], "unpacked"), (zipped(XML)[:40], "unpacked"),
    (bomb, "larger"), (b"<feedback></feedback>", "not a DMARC"), (b"<a>" * 100, "deep"),
], ids=["empty", "text", "cut-gzip", "cut-zip", "bomb", "nothing", "deep"])
def test_bad(tmp_path, data, word):
    path = tmp_path / "r"
    path.write_bytes(data() if callable(data) else data)
    code, why = report("dmarc", path)
    assert code == 65 and word in why and why.count("\n") == 1, why


def samples(*parts):
    base = os.environ.get("POSTRIDER_TESTDATA")
    path = os.path.join(base, *parts) if base else None
    if not path or not os.path.isdir(path):
        pytest.skip("needs POSTRIDER_TESTDATA")
    return [os.path.join(path, name) for name in sorted(os.listdir(path))]


def sum_of(path):
    """All counts of a report, by another reader."""
    with open(path, "rb") as f:
        data = f.read()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    elif data[:2] == b"PK":
        with zipfile.ZipFile(path) as z:
            data = z.read(z.namelist()[0])
    return sum(int(n) for n in re.findall(rb"<count>\s*(\d+)\s*</count>", data)) if b"<feedback" in data else None


def test_samples_of_others():
    paths = [p for d in ("aggregate", "extract_report", "aggregate_invalid")
             for p in samples("dmarc-reports", "parsedmarc", d)]
    assert len(paths) > 20
    compared = 0
    for path in paths:
        code, got = report("dmarc", path)
        assert code == 0, (path, got)
        want = sum_of(path)
        if want is not None:
            assert got["messages"] == want, path
            compared += 1
    print(f"{len(paths)} reports read, {compared} sums compared")
    assert compared > 15


def test_tls_samples_of_others():
    paths = samples("tlsrpt", "parsedmarc")
    for path in paths:
        code, got = report("tlsrpt", path)
        assert code == 0, (path, got)
        assert got["failed"] == sum(p["failed"] for p in got["policies"])
        if path.endswith(".json"):
            with open(path) as f:
                raw = json.load(f)
            assert got["succeeded"] == sum(p["summary"]["total-successful-session-count"] for p in raw["policies"])
    print(f"{len(paths)} reports read")
