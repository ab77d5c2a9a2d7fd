"""The built-in kinds of stages. One line registers a kind: its name, and where its class is."""

from collections.abc import Mapping

STAGE_KINDS: Mapping[str, str] = {
    "classify": "ai_assets.stages.classify.kind:ClassifyStage",
    "extract": "ai_assets.stages.extract:ExtractStage",
    "summarise": "ai_assets.stages.summarise:SummariseStage",
    "generate": "ai_assets.stages.generate:GenerateStage",
    "translate": "ai_assets.stages.translate:TranslateStage",
    "judge": "ai_assets.stages.judge:JudgeStage",
    "function": "ai_assets.stages.function_kind:FunctionStage",
}
EMBED = "embed"
"""What the requests of an embedding are, among kinds of stages."""
