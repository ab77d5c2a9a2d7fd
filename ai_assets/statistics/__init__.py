"""What numbers can show and what they cannot: intervals, tests, guarantees. By numpy, never at definition load.

Every function is tested by seeded simulation of what it promises.
"""
