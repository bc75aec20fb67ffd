"""Runs programs under the power-cut shim and builds the disk that a power failure would leave."""
import json
import os
import shutil
import subprocess
from pathlib import Path

SHIM = os.environ.get("POWERCUT_SHIM", "powercut.so")
CUT = os.environ.get("POWERCUT_CUT", "cut")


class Disk:
    """A directory whose changes are recorded between begin() and cut().

    `data` is the directory; what is in it at begin() counts as being on disk."""

    def __init__(self, room):
        room = Path(room).resolve()
        self.data = room / "data"
        self.base = room / "base"
        self.out = room / "out"
        self.log = room / "journal"
        self.data.mkdir(parents=True, exist_ok=True)
        assert Path(SHIM).exists() and Path(CUT).exists(), f"not built: {SHIM}, {CUT}"

    def env(self):
        """The environment of a program that is to be watched."""
        return dict(os.environ, LD_PRELOAD=SHIM, POWERCUT_DIR=str(self.data),
                    POWERCUT_LOG=str(self.log))

    def begin(self):
        """Everything in `data` is on disk now.  Nobody may be writing there."""
        shutil.rmtree(self.base, ignore_errors=True)
        subprocess.run(["cp", "-a", self.data, self.base], check=True)
        self.log.unlink(missing_ok=True)
        self.log.touch()

    def cut(self, seed, keep=False):
        """The power failed: `out` becomes what the disk holds then, or with keep=False `data`.

        All programs that write to `data` must have been killed.  Returns what was lost."""
        shutil.rmtree(self.out, ignore_errors=True)
        done = subprocess.run([CUT, self.log, self.base, self.out, str(seed)], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["records"], "the shim saw nothing"
        if not keep:
            shutil.rmtree(self.data)
            self.out.rename(self.data)
        return result
