"""Runs delivery as a process of its own: `python -m services.delivery --config node.toml`."""

from libs.launch import main
from services.delivery.wiring import PART

if __name__ == "__main__":
    main(PART)
