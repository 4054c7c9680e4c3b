"""The house: imports point down, files and functions stay small, and the README's picture of it is true."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
LONGEST_FILE, LONGEST_FUNCTION = 400, 60

# Each room with the rooms it may use, itself aside; every room may use the vocabulary.
VOCABULARY = {"errors", "records", "precisions"}
ROOMS = {
    "errors": set(),
    "records": set(),
    "precisions": set(),
    "cache": set(),
    "seeded": set(),
    "inputs": {"seeded"},
    "modelfile": set(),
    "assets": {"cache"},
    "nfnet": {"seeded", "inputs", "cache"},
    "images": {"nfnet"},
