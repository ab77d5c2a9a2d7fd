"""What `ai-assets doctor` looks at: everything an installation stands on, each in a file of its own.

Nothing is written, migrated or paid, but for one object that is put into the bucket and taken out again.
"""
