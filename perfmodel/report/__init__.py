"""What people read: tables, explanations and figures built from answers."""
