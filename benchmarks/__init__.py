"""Speeds and memory, measured: each file is run as `python -m benchmarks.NAME [--short] [--json FILE]`.

Business of this room: figures with the command that prints them, as ratios against a floor or a peer in the
same run where there is one. Tests assert no speed; what is claimed is claimed here.
"""
