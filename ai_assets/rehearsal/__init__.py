"""The rehearsal provider: a server that speaks the OpenAI protocol, to rehearse pipelines, faults and cost on."""
