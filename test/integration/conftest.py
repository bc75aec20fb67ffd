"""Fixtures, and the rule that with CI=true a skipped test is a failed test."""

import collections
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))

from lab import Lab, Sink  # noqa: E402

PLACES = range(20, 240)  # for tests that need a server of their own each

# Names that end in special ways.  "@N@" becomes a loopback address of this lab's own, where a test
# may listen on the lab's common MX port.
ZONE = """
mx.sink.test A @10@
sink.test MX 10 mx.sink.test
implicit.test A @12@
mx.dead.test A @13@
dead.test MX 10 mx.dead.test
null.test MX 0 .
fail.test SERVFAIL
broken.test MX 10 nobody.broken.test
mx.prim.test A @14@
back.test MX 10 mx.prim.test
back.test MX 20 mx.alpha.test
alone.test MX 10 mx.alpha.test
two.test MX 20 mx.sink.test
two.test MX 10 mx.dead.test
""" + "".join(f"mx.h{n}.test A @{n}@\nh{n}.test MX 10 mx.h{n}.test\n" for n in PLACES)

counts = {"testdata_skipped": 0}


def shared_data(*parts):
    """A path in the shared test data, or a skip, which is allowed and counted."""
    base = os.environ.get("POSTRIDER_TESTDATA")
    path = os.path.join(base, *parts) if base else None
    if not path or not os.path.exists(path):
        pytest.skip("needs POSTRIDER_TESTDATA")
    return path


@pytest.fixture(scope="module")
def lab():
    with Lab(zone=ZONE) as it:
        yield it


class Place:
    """A domain of its own, for which a test can play the server."""

    def __init__(self, lab, n):
        self.domain, self.address, self.port = f"h{n}.test", lab.address(n), lab.alpha.mx

    def sink(self, *a, **kw):
        return Sink(self.address, self.port, *a, **kw)


places = collections.defaultdict(lambda: iter(PLACES))  # of each lab


@pytest.fixture
def place(lab):
    return Place(lab, next(places[lab.dir]))


@pytest.fixture(scope="module")
def alpha(lab):
    return lab.alpha


@pytest.fixture(scope="module")
def beta(lab):
    return lab.beta


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.skipped and "POSTRIDER_TESTDATA" in str(report.longrepr):
        counts["testdata_skipped"] += 1
    elif report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true forbids: {report.longrepr}"


def pytest_terminal_summary(terminalreporter):
    if counts["testdata_skipped"]:
        terminalreporter.write_line(
            f"{counts['testdata_skipped']} tests skipped that need POSTRIDER_TESTDATA")
