"""The approval gate before an asset of anybody's own: `ai_assets.signed(asset)`.

To everything else such an asset is a collection of its own: its rows are the documents, and it has requests, releases
and an inbox on the desk. It has no source, no stages and no runs of ours. See docs/adr/0050-signed-assets.md.
"""
