"""Runs management as a process of its own: `python -m services.management --config node.toml`."""

from libs.launch import main
from services.management.wiring import PART

if __name__ == "__main__":
    main(PART)
