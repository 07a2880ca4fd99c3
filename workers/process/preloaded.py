"""Importing this module preloads the tasks of all queues: embedded mode forks its workers from such a process."""

from uair_node.work.topology import QueueName
from workers.process.preload import preload

for queue in QueueName:
    preload(queue)
