"""What a node must have before anybody can sign in: its own zone, and one account that may do everything."""

from libs.state import Secrets
from libs.tx import Transactions, Tx
from quintet.identity.v1.facts_pb2 import AccessChanged, PersonChanged
from services.identity import messages, store_accounts, store_zones
from services.identity.model import Account, Post, Text, Zone
from services.identity.passwords import Passwords
from services.identity.service_zones import publish_zone

ADMIN = "people/node-admin"
ADMIN_LOGIN = "node-admin"
ADMIN_ROLE = "node_admin"
# In the secrets folder of the node, readable by its owner only.
ADMIN_PASSWORD = "node-admin.password"  # noqa: S105 - the name of a file
_TITLE = Text("节点管理员", "Node administrator")


async def prepare(
    transactions: Transactions, passwords: Passwords, secrets: Secrets, *, zone: str, node_name: str
) -> None:
    """Create the node's own zone if it is missing, and the administrator's account if there are no people.

    The password is in the secrets folder under ADMIN_PASSWORD. Any replica may do it, also at the same time. Raises
    Away, and OSError when the secret cannot be written.
    """
    own = Zone(zone, "", 0, Text(node_name, node_name))
    await transactions.run(lambda tx: _ensure_zone(tx, own))
    if await transactions.read(store_accounts.count_people):
        return
    # Written before the account is: a password that nobody knows would lock everybody out.
    secret_hash = await passwords.hash(secrets.get(ADMIN_PASSWORD))
    admin = Account(ADMIN, ADMIN_LOGIN, _TITLE.en, posts=(Post(ADMIN_ROLE, zone, title=_TITLE),))
    await transactions.run(lambda tx: _ensure_admin(tx, admin, secret_hash))


async def _ensure_zone(tx: Tx, zone: Zone) -> None:
    await store_zones.lock_zones(tx.conn)
    if await store_zones.get_zone(tx.conn, zone.code) is not None:
        return
    await store_zones.save_zone(tx.conn, zone)
    publish_zone(tx, zone)
    tx.audit("identity.zones.put", zone.name, changed=True, parent="")


async def _ensure_admin(tx: Tx, admin: Account, secret_hash: str) -> None:
    await store_accounts.lock_name(tx.conn, admin.name)
    if await store_accounts.count_people(tx.conn):
        return
    await store_accounts.save_account(tx.conn, admin)
    await store_accounts.save_secret_hash(tx.conn, admin.name, secret_hash)
    zone = admin.posts[0].zone
    tx.publish(PersonChanged(person=messages.person_message(admin)), zone=zone, key=admin.name)
    tx.publish(AccessChanged(subject=admin.name), zone=zone, key=admin.name)
    tx.audit("identity.people.put", admin.name, changed=True, posts=[f"{ADMIN_ROLE} {zone}"], password_set=True)
