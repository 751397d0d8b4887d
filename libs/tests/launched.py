"""A part to be run as a process by test_launch: the service of sample.proto under the name of a real part."""

import sys
from pathlib import Path
from typing import Any

from libs.host import Host, Part, Wired
from libs.launch import main
from libs.tests import sample
from libs.tests.sample import Response


class Servicer:
    async def Open(self, request: Any, context: Any) -> Any:
        return Response(text="open")

    Mine = Inside = Change = Read = Watch = Upload = Talk = Open


async def build(_host: Host) -> Wired:
    return Wired(servicers=[(sample.registrar(sample.SAMPLE), Servicer(), sample.SAMPLE)])


if __name__ == "__main__":
    main(Part("management", Path(sys.argv.pop()), build))
