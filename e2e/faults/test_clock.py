"""The clock of a node is an hour wrong: what it exchanges with its peers goes on, and is applied once all the same.

libfaketime tells the processes of all its services another time. PostgreSQL, NATS and the edge keep the right one.
"""

from pathlib import Path

import pytest

from e2e.faults.conftest import Bench
from e2e.faults.federation import DISTRICT, until_linked

LIBRARY = "libfaketimeMT.so.1"
FOLDERS = (Path("/usr/lib"), Path("/usr/local/lib"))
SKEW_S = 3_600


def _library() -> str:
    """Where libfaketime is; empty when it is not installed (Debian: faketime)."""
    return next((str(found) for folder in FOLDERS for found in folder.glob(f"**/faketime/{LIBRARY}")), "")


@pytest.mark.skipif(not _library(), reason="libfaketime is not installed: make faults-machine")
@pytest.mark.parametrize("skew_s", [SKEW_S, -SKEW_S])
async def test_the_clock_of_the_district_is_an_hour_wrong(bench: Bench, skew_s: int) -> None:
    district = bench.federation.district
    async with bench.scenario(f"clock of {DISTRICT} {skew_s:+d} s") as doing:
        await district.stop()
        district.environment.update(LD_PRELOAD=_library(), FAKETIME=f"{skew_s:+d}s", FAKETIME_DONT_FAKE_MONOTONIC="1")
        try:
            await district.spawn()
            async with bench.federation.city.client() as city:
                await until_linked(city, DISTRICT)
            # Nobody is asked to sign in there: to the edge, whose clock is right, a token of an hour ago has ended.
            await doing(bench.work(directives=0))
            verdict = await bench.reconciler.settle(bench.everything)
            assert verdict.ok, verdict
            await doing(bench.work())
        finally:
            await district.stop()
            district.environment.clear()
            await district.start_again()
