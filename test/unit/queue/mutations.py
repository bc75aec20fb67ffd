#!/usr/bin/env python3
"""Breaks the queue on purpose, one invariant at a time, and wants test_queue_model to fail each time.
Usage: mutations.py BUILD SOURCE.  Three of them, or with POSTRIDER_LONG=1 all."""
import os
import shlex
import subprocess
import sys
import tempfile

TEST = "test/unit/queue/test_queue_model"
# invariant, file of src/queue/, what stands there (once), what takes its place
MUTATIONS = [
    ("Q4: the keys of removed rows stay listed", "settle.c", '" WHERE message = ? AND (route', '" WHERE message = -? AND (route'),
    ("Q6: a report is accepted in the commit that settles", "settle.c", "if (r >= 0 && s->dsn)", "if (r < 0 && s->dsn)"),
    ("Q7: held is durable", "load.c", ".held = db_col_i64(st, 7) != 0", ".held = false"),
    ("Q1: accepted means written", "accept.c", "r = db_write(in.s->db, write_accept, &in);", "r = 0;"),
    ("Q2: what is leased is leased once", "lease.c", "schedule_lease(q, g);", "g->lease = ++q->last_lease;"),
    ("Q2: what was settled is not tried again", "lease.c", "if (g && !g->kept)", "if (g)"),
    ("Q3: the key never changes", "settle.c", '"UPDATE recipient SET state', '"UPDATE recipient SET key = randomblob(16), state'),
    ("Q4: the blob goes with its message", "settle.c", "blob_remove(q, s.blob);", ""),
    ("Q4: a message leaves when nothing waits", "settle.c", '"SELECT 1 FROM recipient WHERE message = ? AND state = 0 LIMIT 1"',
     '"SELECT 1 FROM recipient WHERE message = ? LIMIT 1"'),
    ("Q5: the next attempt is durable", "settle.c", "p->next, (int64_t)p->fixed", "(usec)1, (int64_t)p->fixed"),
    ("Q7: what is held is not leased", "change.c", "w.held = true;", "w.held = false;"),
    ("a route resumes with what was set aside", "schedule.c", "heap_add(&q->ready, r->ready.v[i]);", ";"),
    ("a release makes due again", "lease.c", "schedule_unlease(q, g, g->due);", "schedule_remove(q, g);"),
]


def main():
    build, source = map(os.path.abspath, sys.argv[1:3])
    chosen = MUTATIONS if os.environ.get("POSTRIDER_LONG") else MUTATIONS[:3]
    commands = subprocess.run(["ninja", "-C", build, "-t", "commands", TEST], stdout=subprocess.PIPE, text=True,
                              check=True).stdout.splitlines()
    survived = 0
    with tempfile.TemporaryDirectory() as work:
        for what, name, old, new in chosen:
            path = os.path.join(source, "src/queue", name)
            with open(path, encoding="utf-8") as f:
                text = f.read()
            if text.count(old) != 1:
                sys.exit(f"{name}: \"{old}\" is there {text.count(old)} times: this script must follow")
            broken, made, test = (os.path.join(work, n) for n in (name, "broken.o", "test"))
            with open(broken, "w", encoding="utf-8") as f:
                f.write(text.replace(old, new))
            compiling = shlex.split(next(c for c in commands if c.endswith(f"src/queue/{name}")))
            compiling[compiling.index("-o") + 1] = made
            compiling[-1] = broken
            subprocess.run([*compiling, "-Wno-error", "-w"], cwd=build, check=True)
            linking = shlex.split(commands[-1])
            at = linking.index("-o")
            linking[at + 1:at + 2] = [test, made]  # before the library, whose own member is then not taken
            subprocess.run(linking, cwd=build, check=True)
            done = subprocess.run([test], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900, check=False,
                                  env={k: v for k, v in os.environ.items() if k != "POSTRIDER_LONG"})
            survived += done.returncode == 0
            print("SURVIVED" if done.returncode == 0 else "found", "-", what, flush=True)
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
