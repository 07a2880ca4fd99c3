"""Importing this module preloads all queues' tasks. Embedded mode forks its workers from this process."""

from uair_node.work.topology import QueueName
from workers.process.preload import preload

for queue in QueueName:
    preload(queue)
