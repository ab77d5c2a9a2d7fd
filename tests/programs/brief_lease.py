"""The real command, in a process whose leases last only so many seconds: `brief_lease.py SECONDS run notes --all`."""

import sys

from ai_assets.cli import main
from ai_assets.storage import workers

if __name__ == "__main__":
    workers.TTL_S = float(sys.argv.pop(1))
    main()
