"""The command. It alone picks implementations and puts the parts together."""
