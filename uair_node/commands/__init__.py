"""The commands of `uair`. Each module has a group of commands. It is loaded when such a command is called."""
