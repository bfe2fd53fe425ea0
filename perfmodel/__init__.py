"""perfmodel: how fast, how many, what binds, at what cost, and how sure."""
