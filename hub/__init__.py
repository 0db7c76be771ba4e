"""Aiguillage, the core: takes submissions in, finds whom they are for, sees them delivered, accounts for
each one. What leaves is in `connectors`, what travels in `schemas`."""
