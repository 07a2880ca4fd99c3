"""The commands of `uair`. Each file has a group of commands and is loaded when one of them is called."""
