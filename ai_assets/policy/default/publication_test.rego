# Run with: ai-assets policy test; or, in a company's own OPA: opa test policies/
package ai_assets.publication_test

import data.ai_assets.publication

request := {
	"approvals": [{"person": "ann", "groups": [], "own_key": null}],
	"authors": [{"who": "Bob", "did": "edited the prompt last"}],
	"launch": {"kind": "schedule", "who": "nightly", "proof": "itself", "changes": []},
}

candidate := {"documents": 10, "quarantined": 0, "quarantined_share": 0, "gates": []}

# The whole input, with something else in the candidate or the request.
with_candidate(other) := {"candidate": object.union(candidate, other), "request": request}

with_request(other) := {"candidate": candidate, "request": object.union(request, other)}

gate := {"name": "accuracy", "holds": true, "waived_because": null, "sentence": "0.7 of at least 0.8"}

test_what_is_in_order_is_let_through if {
	count(publication.deny) == 0 with input as with_candidate({})
}

test_it_takes_an_approval if {
	"0 of 1 approvals by different people" in publication.deny with input as with_request({"approvals": []})
}

test_authors_do_not_approve_their_own_work if {
	"bob approved it, and edited the prompt last" in publication.deny with input as with_request({"approvals": [
		{"person": "bob", "groups": [], "own_key": null},
	]})
}

test_a_failed_gate_needs_a_waiver if {
	count(publication.deny) == 1 with input as with_candidate({"gates": [gate]})
}

waived := object.union(gate, {"waived_because": "a new layout"})

test_a_waived_gate_is_let_through if {
	count(publication.deny) == 0 with input as with_candidate({"gates": [waived]})
}

test_too_many_that_cannot_be_read if {
	"4 of 10 documents cannot be read" in publication.deny with input as with_candidate({
		"quarantined": 4, "quarantined_share": 0.4,
	})
}
