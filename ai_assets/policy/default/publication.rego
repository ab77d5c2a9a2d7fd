# The default policy: what the code asks for in any case, where it can be read, tested and made stricter.
# A policy only forbids: taking a rule out of here allows nothing that the code refuses.
package ai_assets.publication

import data.ai_assets.lib.limits

deny contains message if {
	approved := count({approval.person | some approval in input.request.approvals})
	approved < limits.approvals
	message := sprintf("%d of %d approvals by different people", [approved, limits.approvals])
}

deny contains message if {
	some approval in input.request.approvals
	some author in input.request.authors
	lower(approval.person) == lower(author.who)
	message := sprintf("%s approved it, and %s", [approval.person, author.did])
}

deny contains message if {
	some approval in input.request.approvals
	input.request.launch.kind == "person"
	count(input.request.launch.changes) > 0
	lower(approval.person) == lower(input.request.launch.who)
	message := sprintf("%s approved it, and started its run with changes of their own", [approval.person])
}

deny contains message if {
	some gate in input.candidate.gates
	gate.holds
	gate.waived_because == null
	message := sprintf("the gate %s has not passed: %s", [gate.name, gate.sentence])
}

deny contains message if {
	input.candidate.quarantined_share > limits.quarantined_share
	message := sprintf(
		"%d of %d documents cannot be read",
		[input.candidate.quarantined, input.candidate.documents],
	)
}
