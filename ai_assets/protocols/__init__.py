"""How models are spoken to. Nothing here knows what a document is.

A protocol of your own derives from `Protocol` and is named by `protocol: module:name` in inference.yaml.
"""

from ai_assets.protocols.base import CallDelivery, Fault, NotAnAnswer, Protocol, Reply, ServerLimits, Wire

__all__ = ["CallDelivery", "Fault", "NotAnAnswer", "Protocol", "Reply", "ServerLimits", "Wire"]
