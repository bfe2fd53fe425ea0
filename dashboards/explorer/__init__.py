"""What the pages share: inputs that a link carries, answers kept, how they are shown."""
