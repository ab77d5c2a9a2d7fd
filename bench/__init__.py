import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # its modules import one another by their names alone
