"""`python -m services.perception --config node.toml`: perception as a process of its own."""

from libs.launch import main
from services.perception.wiring import PART

if __name__ == "__main__":
    main(PART)
