#!/bin/sh
# Takes out of the virtual environment $1 what no pod uses. What it is and what it weighs: docs/kubernetes.md.
set -eu
packages=$(echo "$1"/lib/python3*/site-packages)

# Tests, sources of extensions, maps of JavaScript, and what only installs.
find "$packages" -depth -type d \( -name tests -o -name test \) -exec rm -rf {} +
find "$packages" -type f \( -name "*.map" -o -name "*.pyx" -o -name "*.pxd" -o -name "*.c" -o -name "*.cpp" \
    -o -name "*.h" -o -name "*.hpp" -o -name "*.a" \) -delete
rm -rf "$packages"/pip "$packages"/pip-*.dist-info "$packages"/setuptools "$packages"/setuptools-*.dist-info

# sympy is for tools of onnxruntime that convert models; nothing that runs one imports it. torch does.
if [ ! -d "$packages"/torch ]; then
    rm -rf "$packages"/sympy "$packages"/sympy-* "$packages"/mpmath "$packages"/mpmath-* "$packages"/isympy.py
fi
# Arrow's RPC.
rm -f "$packages"/pyarrow/libarrow_flight* "$packages"/pyarrow/libarrow_python_flight* "$packages"/pyarrow/_flight*
# dagster-k8s speaks to the cluster by `kubernetes.client`.
rm -rf "$packages"/kubernetes/aio
# dbt parses numbers as English writes them.
if [ -d "$packages"/babel/locale-data ]; then
    find "$packages"/babel/locale-data -name "*.dat" ! -name "root.dat" ! -name "en*.dat" -delete
fi

# Symbols of debuggers. Libraries below *.libs were moved by their wheels, and are left as they are.
if ! command -v strip > /dev/null; then
    (apt-get -qq update && apt-get -qq install -y --no-install-recommends binutils) > /dev/null 2>&1 ||
        echo "strip is not in this base and apt cannot fetch it: the image is some 80 MB larger" >&2
fi
if command -v strip > /dev/null; then
    find "$packages" -type f -name "*.so*" ! -path "*.libs/*" -exec strip --strip-unneeded {} +
fi
