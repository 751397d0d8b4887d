"""What a run of the demo is asked to do, and where it puts things."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_REQUESTS = 1_500


@dataclass(frozen=True, slots=True)
class Settings:
    """once: exit when done; full: all requests, not a sample; keep: go on with the data of the last run.

    sample is the number of requests in a sample.
    """

    once: bool
    full: bool
    keep: bool
    data: Path
    build: Path
    sample: int = SAMPLE_REQUESTS

    @property
    def nodes(self) -> Path:
        return self.build / "nodes"

    @property
    def accounts(self) -> Path:
        return self.build / "accounts.json"

    @property
    def report(self) -> Path:
        return self.build / "report.json"


def read_settings(environment: Mapping[str, str], root: Path = ROOT) -> Settings:
    """ONCE, FULL and KEEP are on when they hold any text but "0"; QUINTET_DATA is the folder with the real data.

    QUINTET_SAMPLE is the number of requests in the sample, for those who cannot wait. ValueError when it is no number.
    """

    def on(name: str) -> bool:
        return environment.get(name, "").strip() not in {"", "0"}

    data = environment.get("QUINTET_DATA", "").strip()
    return Settings(
        once=on("ONCE"),
        full=on("FULL"),
        keep=on("KEEP"),
        data=Path(data) if data else root.parent / "shared" / "data",
        build=root / "build" / "demo",
        sample=int(environment.get("QUINTET_SAMPLE", "").strip() or SAMPLE_REQUESTS),
    )
