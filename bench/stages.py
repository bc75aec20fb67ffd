"""Where a stored message's CPU goes, by stage: samples of `perf record` (cpu-clock, so no hardware counters are
needed), sorted by the first frame of the stack that says what the time was for."""
import re
import shutil
import subprocess
import tempfile

# First match wins, from the innermost frame outwards.  A system call's name tells more than the kernel function in it.
STAGES = [
    ("commit", r"pwrite|fdatasync|fsync|ftruncate|\bdb_|\bstore_|sqlite3|libsqlite|\bwal_|account_(get|put)"),
    ("timeline", r"\bevents?_|journal"),
    ("parsing", r"message_(check|scan)|\bmime_|imapfmt|\bheader_|address_|\btrace_|\bmail_|smtp_(parse|lex|data|body)|date_put|smtp_wire|\bfeed\b"),
    ("hops", r"channel_|\bpool_|\bsess_|futex|unix_(dgram|seqpacket)|unix_stream|pthread_(mutex|cond)|\bloop_post|eventfd"),
    ("sockets", r"tcp_|inet_|sock_|recvfrom|sendto|sendmsg|recvmsg|accept|epoll|\bloop_|\bfront_|conn_|SSL_|libssl|libcrypto"),
]
ORDER = ["sockets", "hops", "parsing", "commit", "timeline", "other"]


def stage_of(frames):
    for frame in frames:
        for name, pattern in STAGES:
            if re.search(pattern, frame):
                return name
    return "other"


def split(parts, run, total):
    """Records the processes PARTS (name -> pid) while RUN() loads them with TOTAL messages; prints the table."""
    if not shutil.which("perf"):
        print("(no per-stage table: perf is not installed; Debian: linux-perf)")
        return
    with tempfile.NamedTemporaryFile(suffix=".perf") as data:
        perf = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", "1999", "-g", "-o", data.name,
                                 "-p", ",".join(str(p) for p in parts.values())], stderr=subprocess.DEVNULL)
        cpu = run()
        perf.send_signal(2)
        perf.wait()
        text = subprocess.run(["perf", "script", "-i", data.name, "-F", "pid,ip,sym,dso"], capture_output=True,
                              text=True, errors="replace").stdout
    who = {pid: name for name, pid in parts.items()}
    counts, samples = {}, 0
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if not lines or not lines[0].strip().isdigit():
            continue
        name = who.get(int(lines[0]))
        if name is None:
            continue
        key = (name, stage_of(lines[1:]))
        counts[key] = counts.get(key, 0) + 1
        samples += 1
    if not samples:
        print("(no per-stage table: perf took no samples here)")
        return
    print(f"\nCPU ms per message by stage ({samples} samples, {total} messages, shares of {cpu:.3f} ms):\n")
    print("| process | " + " | ".join(ORDER) + " | all |\n|---|" + "---|" * (len(ORDER) + 1))
    shown = [n for n in ("front", "core", "out", "keys", "parent") if any(k[0] == n for k in counts)]
    for name in [*shown, "all"]:
        row = [sum(n for (p, s), n in counts.items() if s == stage and name in (p, "all")) for stage in ORDER]
        print(f"| {name} | " + " | ".join(f"{cpu * n / samples:.3f}" for n in row) + f" | {cpu * sum(row) / samples:.3f} |")
