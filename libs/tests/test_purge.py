"""What is only kept for a while goes when its time is over, and nothing else."""

from libs import purge
from libs.db import Connection
from libs.idempotency import REQUEST_LOG_KEEP_S
from libs.purge import INBOX_KEEP_S, Purger
from libs.testing import MakeTransactions
from libs.tx import Tx


async def test_old_requests_and_fact_ids_are_forgotten(transactions: MakeTransactions) -> None:
    management = await transactions("management")

    async def fill(tx: Tx) -> None:
        for age_s, many in ((REQUEST_LOG_KEEP_S - 60, 3), (REQUEST_LOG_KEEP_S + 60, purge.PURGE_BATCH_ROWS + 10)):
            await tx.conn.execute(
                """INSERT INTO request_log
                SELECT 's', 'm', ($1::float8)::text || n, '', '', now() - make_interval(secs => $1)
                FROM generate_series(1, $2::int) AS n""",
                float(age_s),
                many,
            )
        for age_s in (INBOX_KEEP_S - 60, INBOX_KEEP_S + 60):
            await tx.conn.execute(
                "INSERT INTO inbox SELECT gen_random_uuid(), now() - make_interval(secs => $1)", float(age_s)
            )

    async def left(conn: Connection) -> tuple[int, int]:
        query = "SELECT count(*) FROM "
        return await conn.fetchval(query + "request_log"), await conn.fetchval(query + "inbox")

    await management.run(fill)
    assert await Purger(management).purge() == purge.PURGE_BATCH_ROWS + 11
    assert await management.read(left) == (3, 1)
    assert await Purger(management).purge() == 0
