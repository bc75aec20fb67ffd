"""Runs the offline tools (postrider spf|dkim|arc|dmarc) and writes zone files for them."""
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
POSTRIDER = os.environ.get('POSTRIDER', str(ROOT / 'build' / 'postrider'))
DATA = pathlib.Path(os.environ.get('POSTRIDER_TESTDATA', ROOT.parent / 'shared' / 'data'))


def run(*args, stdin=None):
    return subprocess.run([POSTRIDER, *args], input=stdin, capture_output=True, timeout=60, check=False)


def tool(*args, stdin=None):
    """The row that a command answers with --json."""
    done = run(*args, '--json', stdin=stdin)
    assert done.returncode == 0, (args, done.returncode, done.stderr)
    return json.loads(done.stdout)


def tool_fails(*args, stdin=None):
    """What a command says on its way out with an error."""
    done = run(*args, stdin=stdin)
    assert done.returncode != 0 and not done.stdout
    return done.stderr.decode()


def quoted(data):
    """Bytes as strings of a master file, 255 bytes each."""
    data = data.encode('utf-8') if isinstance(data, str) else data
    text = [''.join(chr(b) if 32 < b < 127 and b not in b'"\\;()' else f'\\{b:03d}' for b in data[i:i + 255])
            for i in range(0, len(data), 255)] or ['']
    return ' '.join(f'"{t}"' for t in text)


def name(text):
    data = text.encode('utf-8')
    return ''.join(chr(b) if 32 < b < 127 and b not in b'"\\;()@$' else f'\\{b:03d}' for b in data).rstrip('.') + '.'


def write_zone(path, records):
    """RECORDS: (name, type, data); type TIMEOUT or SERVFAIL makes the name fail."""
    with open(path, 'w', encoding='ascii') as f:
        for owner, kind, data in records:
            if kind in ('TIMEOUT', 'SERVFAIL'):
                f.write(f'; {kind} {owner}\n')
            else:
                f.write(f'{name(owner)} 60 IN {kind} {data}\n')
    return str(path)


def keys_zone(path, keys):
    """TXT records only: {name: text}."""
    return write_zone(path, [(owner, 'TXT', quoted(text)) for owner, text in keys.items()])
