"""Where things are: the server to test, and beside it the shim and the tool that replays."""
import os
import sys
from pathlib import Path

TEST = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TEST / "lib"))
sys.path.insert(0, str(TEST / "powercut"))

os.environ.setdefault("POSTRIDER", str(TEST.parent / "build" / "postrider"))
BUILT = Path(os.environ["POSTRIDER"]).resolve().parent / "test" / "powercut"
os.environ.setdefault("POWERCUT_SHIM", str(BUILT / "powercut.so"))
os.environ.setdefault("POWERCUT_CUT", str(BUILT / "cut"))
