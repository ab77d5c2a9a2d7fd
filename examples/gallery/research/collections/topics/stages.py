"""Ten questions, each on the answer before: killed in the seventh, it goes on in the seventh."""

from ai_assets import Document, Stage, stage


@stage(columns={"report": str, "steps": int}, version="1")
async def research(document: Document, ctx: Stage) -> dict[str, object]:
    found = document.quoted
    for step in range(1, 10):
        answer = await ctx.ask(f"Step {step}: what is known, and what comes next?\n{found}", max_output_tokens=80)
        found = answer.text
    report = await ctx.ask(f"Write the findings as one paragraph:\n{found}", max_output_tokens=120)
    return {"report": report.text, "steps": 10}
