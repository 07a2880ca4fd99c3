"""The commands of `uair`. Each module has a group of commands. It is loaded when one of them is called."""
