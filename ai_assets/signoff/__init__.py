"""People decide here: candidates and their digest, requests, decisions, releases, and the chain that records it all."""
