"""Where it runs: devices as frozen values built from specs. No formula of an operator here."""
