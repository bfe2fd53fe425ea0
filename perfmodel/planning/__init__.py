"""What fits, what serves, and what it costs: memory, plans, price and energy."""
