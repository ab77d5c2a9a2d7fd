"""Loading the code location against a bare `import dagster`, in CPU seconds of whole processes."""

from bench.measure import Figure, cpu_seconds, median_ratio

REPEATS = 7


def measure() -> list[Figure]:
    load = "import definitions; definitions.defs.get_repository_def()"
    cpu_seconds("-c", load)
    pairs = [(cpu_seconds("-c", load), cpu_seconds("-c", "import dagster")) for _ in range(REPEATS)]
    ours, bare = zip(*pairs, strict=True)
    return [
        Figure(
            name="load the code location / import dagster",
            value=median_ratio(ours, bare),
            limit=1.3,
            at_most=True,
            detail=f"medians {sorted(ours)[REPEATS // 2]:.2f} s and {sorted(bare)[REPEATS // 2]:.2f} s of CPU",
        )
    ]
