"""The table of service items: the real one, or a generated one where the data folder does not hold it."""

import csv
import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.generated import generated_items

FILE = "guangan_service_items.csv.gz"
COLUMNS = ("department", "main_item", "name", "item_code", "task_type")


@contextmanager
def items_folder(data: Path) -> Iterator[Path]:
    """A folder that holds the table under its name: the data folder itself if it can be."""
    if (data / FILE).exists():
        yield data
        return
    with tempfile.TemporaryDirectory() as folder:
        with gzip.open(Path(folder) / FILE, "wt", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(generated_items())
        yield Path(folder)
