"""Policy as code: rules in Rego that may only forbid, beside what the code forbids itself (docs/policy.md)."""
