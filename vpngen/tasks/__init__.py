"""What a network learns: the list of tasks."""
