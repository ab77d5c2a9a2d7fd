# The numbers of the policy in one place.
package ai_assets.lib.limits

# Different people who must have approved.
approvals := 1

# Of the documents of a candidate, the largest share that nobody can read.
quarantined_share := 0.25
