"""Research that production does not need: walk-forward, back-test, comparison of kinds, and the report of it all."""
