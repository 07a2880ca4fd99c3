"""What is due and who does it: work items as tasks, queues, the performer of one item."""
