"""`python -m services.identity --config node.toml`."""

from libs.launch import main
from services.identity.wiring import PART

if __name__ == "__main__":
    main(PART)
