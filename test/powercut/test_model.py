"""The power-cut model itself: what each kind of carelessness loses, and what care keeps.

Each scenario runs in a child under the shim; its journal is then cut with many seeds, and every disk
that comes out must be one of those allowed, while each of those named in `must` has to come out at
least once.
"""
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import powercut

SEEDS = 60
OLD, NEW = b"o" * 3000, b"n" * 5000
WHOLE, GONE = "whole", "gone"

SCENARIOS = {
    # name: (code, allowed outcomes of file "a", outcomes that must be seen)
    "nothing synced": ("fd = create('a'); os.write(fd, NEW)", None, {WHOLE, GONE}),
    "name synced, content not": (
        "fd = create('a'); sync_dir(); os.write(fd, NEW[:2500]); os.pwrite(fd, NEW[2500:], 2500)",
        None, {WHOLE, "empty", "torn"}),
    "content synced, name not": (
        "fd = create('a'); os.write(fd, NEW); os.fsync(fd)", {WHOLE, GONE}, {WHOLE, GONE}),
    "both synced": (
        "fd = create('a'); os.write(fd, NEW); os.fdatasync(fd); sync_dir()", {WHOLE}, {WHOLE}),
    "overwritten after the sync": (
        "fd = create('a'); os.write(fd, OLD); os.fsync(fd); sync_dir(); os.pwrite(fd, NEW, 0)",
        None, {WHOLE, "old", "torn"}),
    "replaced without directory sync": (
        "put('a', OLD); sync_dir(); put('a.new', NEW); os.rename('a.new', 'a')",
        {WHOLE, "old"}, {WHOLE, "old"}),
    "replaced with directory sync": (
        "put('a', OLD); sync_dir(); put('a.new', NEW); os.rename('a.new', 'a'); sync_dir()",
        {WHOLE}, {WHOLE}),
    "replaced without content sync": (
        "put('a', OLD); sync_dir(); fd = create('a.new'); os.write(fd, NEW);"
        "os.rename('a.new', 'a'); sync_dir()",
        None, {WHOLE, "empty", "torn"}),
    "nameless file linked": (
        "fd = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600); os.write(fd, NEW); os.fsync(fd);"
        "link(fd, 'a')",
        {WHOLE, GONE}, {WHOLE, GONE}),
    "nameless file linked, directory synced": (
        "fd = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600); os.write(fd, NEW); os.fsync(fd);"
        "link(fd, 'a'); sync_dir()",
        {WHOLE}, {WHOLE}),
    "removed": ("put('a', NEW); sync_dir(); os.unlink('a')", {WHOLE, GONE}, {WHOLE, GONE}),
    "removed for good": ("put('a', NEW); sync_dir(); os.unlink('a'); sync_dir()", {GONE}, {GONE}),
    "made and removed": ("put('a', NEW); os.unlink('a')", {WHOLE, GONE}, {GONE}),
    "cut to size": (
        "put('a', NEW + OLD); sync_dir(); fd = os.open('a', os.O_RDWR); os.ftruncate(fd, len(NEW))",
        {WHOLE, "longer"}, {WHOLE, "longer"}),
    "copied in the kernel": (
        "src = create('../src'); os.write(src, NEW); fd = create('a');"
        "os.copy_file_range(src, fd, len(NEW), 0); os.fsync(fd); sync_dir()",
        {WHOLE}, {WHOLE}),
    "writes of many pieces": (
        "fd = create('a'); os.writev(fd, [NEW[:100], NEW[100:]]); os.fsync(fd); sync_dir()",
        {WHOLE}, {WHOLE}),
    "in a new directory": (
        "os.mkdir('d'); put('d/a', NEW); sync_dir('d'); os.rename('d/a', 'a'); sync_dir()",
        {WHOLE}, {WHOLE}),
    "new directory not synced": (
        "os.mkdir('d'); put('d/a', NEW); sync_dir('d')", {GONE}, {GONE}),
    "file that existed before": (
        "fd = os.open('before', os.O_RDWR); os.pwrite(fd, NEW, 0); os.fsync(fd);"
        "os.rename('before', 'a'); sync_dir()",
        {WHOLE}, {WHOLE}),
}

PRELUDE = f"""
import os
OLD, NEW = b'o' * {len(OLD)}, b'n' * {len(NEW)}
def create(path):
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
def put(path, data):
    fd = create(path); os.write(fd, data); os.fsync(fd); os.close(fd)
def link(fd, path):
    os.link('/proc/self/fd/%d' % fd, path, src_dir_fd=fd, follow_symlinks=True)
def sync_dir(path='.'):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY); os.fsync(fd); os.close(fd)
"""


def outcome(path):
    if not path.exists():
        return GONE
    data = path.read_bytes()
    return {NEW: WHOLE, OLD: "old", b"": "empty", NEW + OLD: "longer"}.get(data, "torn")


def run_child(code, disk):
    subprocess.run([sys.executable, "-c", code], cwd=disk.data, env=disk.env(), check=True)


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name, tmp_path):
    code, allowed, must = SCENARIOS[name]
    disk = powercut.Disk(tmp_path)
    (disk.data / "before").write_bytes(OLD)
    seen = set()
    for seed in range(SEEDS):
        if seed == 0:
            disk.begin()
            run_child(PRELUDE + code, disk)
        disk.cut(seed, keep=True)
        seen.add(outcome(disk.out / "a"))
    print(f"{SEEDS} cuts: {sorted(seen)}")
    assert allowed is None or seen <= allowed
    assert must <= seen


def test_directories_need_their_parent(tmp_path):
    disk = powercut.Disk(tmp_path)
    disk.begin()
    run_child(PRELUDE + "os.mkdir('d'); put('d/a', NEW); sync_dir('d')", disk)
    seen = set()
    for seed in range(SEEDS):
        disk.cut(seed, keep=True)
        seen.add(outcome(disk.out / "d" / "a"))
    print(f"{SEEDS} cuts: {sorted(seen)}")
    assert seen == {WHOLE, GONE}


def test_journal_cut_short_by_the_kill(tmp_path):
    disk = powercut.Disk(tmp_path)
    disk.begin()
    run_child(PRELUDE + "put('a', NEW); sync_dir()", disk)
    whole = disk.log.read_bytes()
    for end in range(80, len(whole), 97):
        disk.log.write_bytes(whole[:end])
        disk.cut(1, keep=True)
        assert outcome(disk.out / "a") in {WHOLE, GONE, "empty"}


SQLITE = """
import os, sqlite3, sys
db = sqlite3.connect('t.db', isolation_level=None)
db.execute('PRAGMA journal_mode=WAL')
db.execute('PRAGMA synchronous=%s')
db.execute('PRAGMA wal_autocheckpoint=7')
db.execute('CREATE TABLE t(n INTEGER PRIMARY KEY, x)')
for n in range(40):
    db.execute('INSERT INTO t VALUES(?, ?)', (n, os.urandom(3000)))
    os.write(1, b'%%d\\n' %% n)
os.kill(os.getpid(), 9)
"""


def sqlite_rows(path):
    try:
        with sqlite3.connect(path) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return [n for n, in db.execute("SELECT n FROM t ORDER BY n")]
    except sqlite3.DatabaseError:
        return None


@pytest.mark.parametrize("synchronous,keeps", [("FULL", True), ("OFF", False)])
def test_sqlite(synchronous, keeps, tmp_path):
    """A judge from outside: SQLite keeps every answered commit, or not, as its setting says."""
    disk = powercut.Disk(tmp_path)
    disk.begin()
    child = subprocess.run([sys.executable, "-c", SQLITE % synchronous], cwd=disk.data,
                           env=disk.env(), stdout=subprocess.PIPE, check=False)
    answered = len(child.stdout.split())
    losses = 0
    for seed in range(SEEDS):
        disk.cut(seed, keep=True)
        losses += sqlite_rows(disk.out / "t.db") != list(range(answered))
    print(f"{SEEDS} cuts, {answered} commits, synchronous={synchronous}: {losses} disks with a loss")
    assert answered == 40
    assert (losses == 0) == keeps
