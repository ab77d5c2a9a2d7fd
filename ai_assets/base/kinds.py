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
CHECKS: Mapping[str, str] = {
    name: f"ai_assets.evaluation.text_checks:{name}"
    for name in ("schema_valid", "quotes_found", "length_within", "same_language")
}
"""Metrics of generated text that a collection names in `metrics` by `use`."""
CHECKS_VERSION = "checks-1"
"""Another one scores everything again."""
EMBED = "embed"
"""What the requests of an embedding are, among kinds of stages."""
