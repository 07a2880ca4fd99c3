"""Work that is due: dispatch of work items as tasks, queues, and the performer of an item."""
