"""`python -m services.sharing --config node.toml`: sharing as a process of its own."""

from libs.launch import main
from services.sharing.wiring import PART

if __name__ == "__main__":
    main(PART)
