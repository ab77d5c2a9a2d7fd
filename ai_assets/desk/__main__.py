"""`python -m ai_assets.desk`: the desk as a process of its own, with the options of `ai-assets desk`."""

from ai_assets.base.standalone import run_alone
from ai_assets.desk.command import desk

if __name__ == "__main__":
    run_alone(desk)
