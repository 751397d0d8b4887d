"""Runs federation as a process of its own."""

from libs.launch import main
from services.federation.wiring import PART

if __name__ == "__main__":
    main(PART)
