"""Runs collaboration as a process of its own: `python -m services.collaboration --config node.toml`."""

from libs.launch import main
from services.collaboration.wiring import PART

if __name__ == "__main__":
    main(PART)
