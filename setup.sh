#!/bin/sh
# Makes the virtual environment $1 from requirements.lock, with uv where there is one and with pip otherwise.
set -eu
venv=$1

for candidate in python3.13 python3.12 python3.11 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "${python:-}" ]; then
    echo "error: Python 3.11, 3.12 or 3.13 is needed, and none is on PATH. Install one (on Debian: apt install python3 python3-venv) and run make again." >&2
    exit 2
fi

# Before anything is downloaded. AI_ASSETS_NEED_DISK_MB and AI_ASSETS_NEED_MEMORY_MB set other limits; 0 asks nothing.
# Measured in a fresh clone on 27 November 2026 (docs/benchmarks.md): pip has 0.5 GB at its peak, and `make run` with both
# samples 1.9 GB, all processes together, each shared page counted once.
need_disk=${AI_ASSETS_NEED_DISK_MB:-2500} need_memory=${AI_ASSETS_NEED_MEMORY_MB:-2000}
if [ ! -x "$venv/bin/python" ]; then
    free_disk=$(df -Pm "$(dirname "$venv")" | awk 'NR == 2 { print $4 }')
    if [ "$free_disk" -lt "$need_disk" ]; then
        echo "error: $(cd "$(dirname "$venv")" && pwd) has $free_disk MB of disk left, and $need_disk MB are needed. Free some, or set AI_ASSETS_NEED_DISK_MB to go on with less." >&2
        exit 2
    fi
    free_memory=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo 2>/dev/null || true)
    if [ -n "$free_memory" ] && [ "$free_memory" -lt "$need_memory" ]; then
        echo "error: this machine has $free_memory MB of memory available, and $need_memory MB are needed. End something, or set AI_ASSETS_NEED_MEMORY_MB to go on with less." >&2
        exit 2
    fi
fi

packages=$(grep -c '==' requirements.lock)
started=$(date +%s)
if [ ! -x "$venv/bin/python" ]; then
    echo "[1/3] Making $venv with $("$python" --version)"
    "$python" -m venv "$venv" || {
        echo "error: $python cannot make a virtual environment. On Debian: apt install python3-venv" >&2
        exit 2
    }
else
    echo "[1/3] Using $venv"
fi

echo "[2/3] Installing $packages pinned packages (about 2.1 GB on disk; one to three minutes, the first time)"
log=$venv/set-up.log
install() { "$venv/bin/python" -m pip install --disable-pip-version-check "$@"; }
if command -v uv >/dev/null 2>&1; then
    uv pip install --quiet --python "$venv/bin/python" --no-deps --require-hashes -r requirements.lock 2>"$log" ||
        echo "      uv could not install them ($log says why); trying pip"
fi
# The lock names every package, so nothing is left to resolve: --no-deps.
{ install --no-deps --require-hashes -r requirements.lock 2>"$log" || echo "@failed"; } |
    awk -v total="$packages" -v live="$([ -t 1 ] && echo 1)" '
        /^(Collecting|Processing|Requirement already satisfied)/ {
            n++
            if (live) printf "\r      %d of %d", n, total; else if (n % 50 == 0) printf "      %d of %d\n", n, total
            fflush()
        }
        /^Installing collected/ { if (live) printf "\r"; print "      unpacking"; fflush() }
        /^@failed/ { failed = 1 }
        END { if (live && n) print ""; exit failed }' && install --quiet --no-deps --no-build-isolation -e . 2>>"$log" || {
    tail -n 15 "$log" >&2
    echo "error: the packages did not install; the lines above say why (all of them: $log). Mend it and run make again." >&2
    exit 2
}
# pytest rewrites the modules of its plugins: 2 s of every start where the environment keeps no bytecode, as many do.
PYTHONDONTWRITEBYTECODE='' "$venv/bin/python" -m pytest --version --version >/dev/null 2>&1 || true
echo "[3/3] Set up in $(($(date +%s) - started)) s"
