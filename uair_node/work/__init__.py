"""Work items: their queues, their dispatch as tasks, and the performer of an item."""
