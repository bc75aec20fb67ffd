"""The SPF suites of RFC 7208 and RFC 4408, case by case."""
import pytest
import suites

yaml = pytest.importorskip('yaml')

FILES = {'rfc7208-tests.yml': 203, 'rfc4408-tests.yml': 191}


def scenarios(path):
    # The suites write bytes as "\xNN" escapes; YAML makes code points of them.
    for doc in yaml.safe_load_all(path.read_text(encoding='utf-8')):
        if doc and doc.get('tests'):
            yield doc


def as_bytes(value):
    text = ''.join(value) if isinstance(value, list) else str(value)
    return text.encode('latin-1', 'replace')


def strings(value):
    return value if isinstance(value, list) else [value]


def records(zonedata):
    """The suites' rule: a name that has SPF records and says nothing of TXT has the same as TXT."""
    for owner, entries in zonedata.items():
        pairs = [next(iter(e.items())) for e in entries if isinstance(e, dict)]
        says_txt = any(kind == 'TXT' for kind, _ in pairs)
        if 'TIMEOUT' in entries:
            yield owner, 'TIMEOUT', None
        for kind, value in pairs:
            if kind in ('TXT', 'SPF'):
                if value == 'NONE':
                    continue
                text = ' '.join(suites.quoted(as_bytes(s)) for s in strings(value)) or '""'
                yield owner, kind, text
                if kind == 'SPF' and not says_txt:
                    yield owner, 'TXT', text
            elif kind == 'MX':
                yield owner, 'MX', f'{value[0]} {suites.name(value[1])}'
            elif kind in ('PTR', 'CNAME'):
                yield owner, kind, suites.name(value)
            else:
                yield owner, kind, value


@pytest.mark.parametrize('file', FILES)
def test_suite(file, tmp_path):
    path = suites.DATA / 'spf' / 'pyspf' / file
    if not path.exists():
        pytest.skip('needs POSTRIDER_TESTDATA')
    wrong, count = [], 0
    for number, doc in enumerate(scenarios(path)):
        zone = suites.write_zone(tmp_path / f'{number}.zone', records(doc['zonedata']))
        for case, t in doc['tests'].items():
            count += 1
            row = suites.tool('spf', 'check', '--zone', zone, '--time', '1700000000', '--ip', t['host'],
                              '--helo', t['helo'], '--from', t['mailfrom'] or '')
            explanation = t.get('explanation')
            if row['result'] not in strings(t['result']):
                wrong.append(f"{doc['description']}/{case}: {row}, wanted {t['result']}")
            elif explanation and row.get('explanation', 'DEFAULT') != explanation:
                wrong.append(f"{doc['description']}/{case}: {row}, wanted explanation {explanation!r}")
    print(f'{file}: {count - len(wrong)}/{count}')
    assert not wrong, '\n'.join(wrong)
    assert count == FILES[file]
