"""A run as it goes: its events, and the sinks that hear of them.

A sink of your own derives from `Sink`; the events are in `ai_assets.run.events`.
"""

from ai_assets.run.sinks import Sink

__all__ = ["Sink"]
