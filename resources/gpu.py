"""Models that this deployment loads itself, on a processor or a GPU: for assets of plain Dagster code.

What an hour of a device costs and how long it is held idle is declared in `inference.yaml` under `devices`. A
collection needs none of this: it says `embedding: {backend: torch, ...}` in its defs.yaml.
"""

from ai_assets import GPUResource

GPU = GPUResource(device="auto")
