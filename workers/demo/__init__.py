"""The demonstration: the whole loop with real processes and real associations, and a reader played by us."""
