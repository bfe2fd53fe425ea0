"""Damaged input for every reader: an answer or one typed error, quickly, in little memory."""
