"""The Dagster resources of this deployment, by the name under which an asset asks for them.

Which models there are, at what price, in which order they are tried and how often again, is declared in
`inference.yaml`; the stores are where AI_ASSETS_HOME and AI_ASSETS_STATE_URL say.
"""

from collections.abc import Mapping

from ai_assets import LLMResource
from resources.gpu import GPU

RESOURCES: Mapping[str, object] = {"gpu": GPU, "llm": LLMResource()}
