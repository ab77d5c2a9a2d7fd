"""`python -m ai_assets.rehearsal`: the provider as a process of its own, with the options of `ai-assets provider`."""

from ai_assets.base.standalone import run_alone
from ai_assets.rehearsal.command import provider

if __name__ == "__main__":
    run_alone(provider)
