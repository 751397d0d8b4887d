"""People, roles and service accounts: the second half of DirectoryService."""

from collections.abc import Sequence
from functools import partial

from libs import paging
from libs.access import Grants, current_caller
from libs.db import Connection
from libs.errors import Exhausted, Forbidden, Invalid, NotFound, Reason, WrongState
from libs.tx import Transactions, Tx
from quintet.identity.v1 import directory_pb2, directory_pb2_grpc
from quintet.identity.v1.facts_pb2 import AccessChanged, PersonChanged
from services.identity import messages, store_accounts, store_sessions, store_zones
from services.identity.model import (
    ROLES_MAX,
    Account,
    Post,
    Role,
    check_password,
    check_posts,
    exceeding,
    inheritance_fault,
    post_zones,
)
from services.identity.passwords import Passwords, new_secret, secret_digest
from services.identity.policy import Policy
from services.identity.resolver import AccessResolver

WRITE_PEOPLE = "identity.people.write"
READ_PEOPLE = "identity.people.read"
WRITE_SERVICE_ACCOUNTS = "identity.service_accounts.write"
WRITE_ROLES = "identity.roles.write"


class AccountMethods(directory_pb2_grpc.DirectoryServiceServicer):
    """The methods of DirectoryService that are about who may do what."""

    def __init__(self, transactions: Transactions, resolver: AccessResolver, passwords: Passwords, root: str) -> None:
        """`root` is the code of the node's own zone."""
        self._transactions = transactions
        self._resolver = resolver
        self._passwords = passwords
        self._root = root

    # ---------------------------------------------------------------------------------------------------------- people

    async def PutPerson(
        self, request: directory_pb2.PutPersonRequest, _context: object
    ) -> directory_pb2.PutPersonResponse:
        person = messages.person_of(request.person)
        check_posts(person.posts, "person.posts")
        new_hash = ""
        if request.password:
            check_password(request.password, person)
            new_hash = await self._new_hash(person.name, request.password)
        return await self._transactions.mutate(
            request,
            directory_pb2.PutPersonResponse,
            partial(self._put_person, person=person, new_hash=new_hash, password_given=bool(request.password)),
        )

    async def _put_person(
        self, tx: Tx, person: Account, new_hash: str, *, password_given: bool
    ) -> directory_pb2.PutPersonResponse:
        before = await self._locked(tx.conn, person, WRITE_PEOPLE, "person.posts")
        changed = person != before
        if changed:
            await store_accounts.save_account(tx.conn, person)
            message = PersonChanged(person=messages.person_message(person))
            tx.publish(message, zone=self._zone_of(person), key=person.name)
        await self._apply_access(tx, before, person, new_hash)
        tx.audit(
            "identity.people.put",
            person.name,
            changed=changed,
            posts=_audited(person.posts),
            disabled=person.disabled,
            password_set=new_hash != "",
        )
        return directory_pb2.PutPersonResponse(
            person=messages.person_message(person), changed=changed or password_given
        )

    async def GetPerson(
        self, request: directory_pb2.GetPersonRequest, _context: object
    ) -> directory_pb2.GetPersonResponse:
        person = await self._transactions.read(lambda conn: store_accounts.get_account(conn, request.name))
        missing = NotFound(Reason.PERSON_NOT_FOUND, f"{request.name} does not exist", name=request.name)
        if person is None:
            raise missing
        caller = current_caller()
        if not any(caller.allows(READ_PEOPLE, post.zone, post.organisation, person.name) for post in person.posts):
            caller.require(READ_PEOPLE, zone=self._root, hide=missing)
        return directory_pb2.GetPersonResponse(person=messages.person_message(person))

    async def ListPeople(
        self, request: directory_pb2.ListPeopleRequest, _context: object
    ) -> directory_pb2.ListPeopleResponse:
        visible = current_caller().visibility(READ_PEOPLE)
        after = paging.after(request.page_token, str, of="people")
        size = paging.size(request.page_size)
        people = await self._transactions.read(
            lambda conn: store_accounts.list_people(conn, visible, after=after[0] if after else "", limit=size + 1)
        )
        page, token = paging.page(people, size, lambda person: (person.name,), of="people")
        return directory_pb2.ListPeopleResponse(
            people=[messages.person_message(person) for person in page], next_page_token=token
        )

    # ------------------------------------------------------------------------------------------------ service accounts

    async def PutServiceAccount(
        self, request: directory_pb2.PutServiceAccountRequest, _context: object
    ) -> directory_pb2.PutServiceAccountResponse:
        account = messages.service_account_of(request.service_account)
        check_posts(account.posts, "serviceAccount.posts")
        # The answer that the log of requests keeps is without the secret: it is given once.
        return await self._transactions.mutate(
            request,
            directory_pb2.PutServiceAccountResponse,
            partial(self._put_service_account, account=account, rotate=request.rotate_secret),
        )

    async def _put_service_account(
        self, tx: Tx, account: Account, *, rotate: bool
    ) -> directory_pb2.PutServiceAccountResponse:
        before = await self._locked(tx.conn, account, WRITE_SERVICE_ACCOUNTS, "serviceAccount.posts")
        secret = new_secret() if rotate or before is None else ""
        changed = account != before
        if changed:
            await store_accounts.save_account(tx.conn, account)
        await self._apply_access(tx, before, account, secret_digest(secret) if secret else "")
        tx.audit(
            "identity.service_accounts.put",
            account.name,
            changed=changed,
            posts=_audited(account.posts),
            disabled=account.disabled,
            secret_made=secret != "",
        )
        return directory_pb2.PutServiceAccountResponse(
            service_account=messages.service_account_message(account), secret=secret, changed=changed or secret != ""
        )

    # ----------------------------------------------------------------------------------------------------------- roles

    async def PutRole(self, request: directory_pb2.PutRoleRequest, _context: object) -> directory_pb2.PutRoleResponse:
        role = messages.role_of(request.role)
        if role.of_service:
            raise Invalid("role.name", "is kept for the node's own services")
        # A role counts wherever somebody holds it.
        current_caller().require(WRITE_ROLES, zone=self._root)
        return await self._transactions.mutate(
            request, directory_pb2.PutRoleResponse, partial(self._put_role, role=role)
        )

    async def _put_role(self, tx: Tx, role: Role) -> directory_pb2.PutRoleResponse:
        await store_accounts.lock_roles(tx.conn)
        own = {each.id: each for each in await store_accounts.all_roles(tx.conn)}
        before = own.get(role.id)
        if before is None and len(own) >= ROLES_MAX:
            raise Exhausted(Reason.QUOTA, f"a node has at most {ROLES_MAX} roles of its own")
        own[role.id] = role
        self._check_role(role, own)
        changed = role != before
        if changed:
            await store_accounts.save_role(tx.conn, role)
        if before is None or (before.grants, before.inherits) != (role.grants, role.inherits):
            tx.publish(AccessChanged(), zone=self._root, key=role.name)
        tx.audit(
            "identity.roles.put",
            role.name,
            changed=changed,
            grants=[f"{grant.permission} {grant.scope}" for grant in role.grants],
            inherits=list(role.inherits),
        )
        return directory_pb2.PutRoleResponse(role=messages.role_message(role), changed=changed)

    def _check_role(self, role: Role, own: dict[str, Role]) -> None:
        built_in = {each.id: each for each in self._resolver.policy.roles.values() if each.built_in}
        if role.id in built_in:
            raise WrongState(Reason.ROLE_BUILT_IN, f"{role.name} comes with the product", name=role.name)
        for index, inherited in enumerate(role.inherits):
            found = own.get(inherited) or built_in.get(inherited)
            if found is None or found.of_service:
                rule = "names no role that others can have"
                raise Invalid(f"role.inherits[{index}]", rule, reason=Reason.ROLE_NOT_FOUND)
        everything = built_in | own
        # The change may also deepen what inherits this role.
        for each in own:
            if fault := inheritance_fault(each, everything):
                raise fault
        self._require_covered(Policy(own.values()), [Post(role.id, self._root)])

    async def ListRoles(
        self, request: directory_pb2.ListRolesRequest, _context: object
    ) -> directory_pb2.ListRolesResponse:
        after = paging.after(request.page_token, str, of="roles")
        size = paging.size(request.page_size)
        roles = sorted(self._resolver.policy.roles.values(), key=lambda role: role.id)
        rest = [role for role in roles if after is None or role.id > after[0]]
        page, token = paging.page(rest, size, lambda role: (role.id,), of="roles")
        return directory_pb2.ListRolesResponse(
            roles=[messages.role_message(role) for role in page], next_page_token=token
        )

    # ---------------------------------------------------------------------------------------------------------- common

    async def _locked(self, conn: Connection, account: Account, permission: str, field: str) -> Account | None:
        """Return the account as it was, locked, when the caller may make it so as `account` says."""
        await store_accounts.lock_name(conn, account.name)
        before = await store_accounts.get_account(conn, account.name, for_update=True)
        caller = current_caller()
        for zone in sorted(post_zones(before, account)) or [self._root]:
            caller.require(permission, zone=zone)
        if account.disabled and account.name == caller.subject:
            raise WrongState(Reason.WRONG_STATE, "nobody disables their own account", name=account.name)
        await self._check_references(conn, account.posts, field)
        # The posts held so far count too: who sets somebody's password could otherwise act as them.
        self._require_covered(self._resolver.policy, [*(before.posts if before else ()), *account.posts])
        return before

    async def _check_references(self, conn: Connection, posts: Sequence[Post], field: str) -> None:
        missing = await store_zones.missing(
            conn,
            zones=[post.zone for post in posts],
            organisations=[post.organisation for post in posts if post.organisation],
        )
        faults: list[tuple[str, str]] = []
        for index, post in enumerate(posts):
            if post.role not in self._resolver.policy.roles:
                faults.append((f"{field}[{index}].role", "names no role of this node"))
            if post.zone in missing:
                faults.append((f"{field}[{index}].zone", "names no zone of this node"))
            if post.organisation in missing:
                faults.append((f"{field}[{index}].organisation", "names no organisation of this node"))
        if faults:
            raise Invalid.many(faults)

    def _require_covered(self, policy: Policy, posts: Sequence[Post]) -> None:
        """Raise Forbidden unless the caller holds all that the posts give: nobody gives a right they do not hold."""
        held: Grants = current_caller().grants
        known = [post for post in posts if post.role in policy.roles]
        beyond = exceeding(held, policy.grants(known), self._resolver.tree())
        if beyond is not None:
            text = f"{beyond.permission} in {beyond.zone or self._root} is more than the caller holds"
            raise Forbidden(
                Reason.ROLE_EXCEEDS_OWN, text, permission=beyond.permission, scope=beyond.scope.value, zone=beyond.zone
            )

    async def _apply_access(self, tx: Tx, before: Account | None, account: Account, secret_hash: str) -> None:
        """Set a new hash if there is one, end the sessions that must not go on, and say so when access changed."""
        if secret_hash:
            await store_accounts.save_secret_hash(tx.conn, account.name, secret_hash)
        ended = 0
        if secret_hash or account.disabled:
            ended = await store_sessions.end_sessions(tx.conn, account.name, tx.now)
        posts = {post.key for post in before.posts} if before else set()
        altered = before is None or posts != {post.key for post in account.posts} or before.disabled != account.disabled
        if altered or ended:
            tx.publish(AccessChanged(subject=account.name), zone=self._zone_of(account), key=account.name)

    async def _new_hash(self, name: str, password: str) -> str:
        """Return the hash of the password, "" when it is the one that the account has already."""
        kept = await self._transactions.read(lambda conn: store_accounts.get_secret_hash(conn, name))
        if kept and await self._passwords.verify(kept, password) and not self._passwords.outdated(kept):
            return ""
        return await self._passwords.hash(password)

    def _zone_of(self, account: Account) -> str:
        return account.posts[0].zone if account.posts else self._root


def _audited(posts: Sequence[Post]) -> list[str]:
    return [" ".join(filter(None, post.key)) for post in posts]
