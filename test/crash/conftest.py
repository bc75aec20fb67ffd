import os
import sys
from pathlib import Path

TEST = Path(__file__).resolve().parent.parent
os.environ.setdefault("POSTRIDER", str(TEST.parent / "build" / "postrider"))
for folder in ("lib", "powercut", "crash"):
    sys.path.insert(0, str(TEST / folder))
