import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { IdentityService, TokensSchema } from "../src/gen/quintet/identity/v1/identity_pb.js";
import { refusalOf } from "../src/errors.js";
import { Session } from "../src/session.js";

/** A node in this process: the tokens that it takes, and how long new ones live. */
class Node {
  readonly good = new Set<string>();
  refresh = "";
  made = 0;

  constructor(readonly lifeMs = 900_000) {}

  tokens() {
    this.made += 1;
    this.good.add(`access-${this.made}`);
    this.refresh = `refresh-${this.made}`;
    const expiresAt = timestampFromMs(Date.now() + this.lifeMs);
    return create(TokensSchema, { accessToken: `access-${this.made}`, refreshToken: this.refresh, expiresAt });
  }

  private authorise(context: HandlerContext) {
    const token = context.requestHeader.get("authorization")?.replace("Bearer ", "") ?? "";
    if (!this.good.has(token)) throw new ConnectError("refused", Code.Unauthenticated);
  }

  connect() {
    const router = (interceptors: Session["interceptor"][]) =>
      createRouterTransport(
        (routes) =>
          routes.service(IdentityService, {
            signIn: ({ login, password }) => {
              if (password === "") throw this.invalid("password");
              return { tokens: this.tokens(), subject: `people/${login}` };
            },
            refreshSession: ({ refreshToken }) => {
              if (refreshToken !== this.refresh) throw new ConnectError("refused", Code.Unauthenticated);
              return { tokens: this.tokens() };
            },
            getProfile: (_, context) => {
              this.authorise(context);
              return { subject: "people/somebody" };
            },
            signOut: (_, context) => {
              this.authorise(context);
              this.good.clear();
              return {};
            },
          }),
        { transport: { interceptors } },
      );
    const session = new Session(router([]), "");
    return { session, identity: createClient(IdentityService, router([session.interceptor])) };
  }

  private invalid(field: string) {
    return new ConnectError("refused", Code.InvalidArgument, undefined, [
      { desc: ErrorInfoSchema, value: { reason: "INVALID", domain: "quintet", metadata: { field } } },
      { desc: BadRequestSchema, value: { fieldViolations: [{ field, description: "required" }] } },
    ]);
  }
}

test("a session carries its token", async () => {
  const { session, identity } = new Node().connect();
  assert.equal(await session.signIn("resident.01", "right"), "people/resident.01");
  assert.equal((await identity.getProfile({})).subject, "people/somebody");
});

test("a token that ends soon is renewed before the call", async () => {
  const node = new Node(1000);
  const { session, identity } = node.connect();
  await session.signIn("resident.01", "right");
  node.good.clear();
  await identity.getProfile({});
  assert.equal(node.made, 2);
});

test("a refused token is renewed once for all calls at a time", async () => {
  const node = new Node();
  const { session, identity } = node.connect();
  await session.signIn("resident.01", "right");
  node.good.clear();
  await Promise.all(Array.from({ length: 5 }, () => identity.getProfile({})));
  assert.equal(node.made, 2);
});

test("a session that cannot be renewed ends", async () => {
  const node = new Node();
  const { session, identity } = node.connect();
  await session.signIn("resident.01", "right");
  node.good.clear();
  node.refresh = "used by somebody else";
  await assert.rejects(identity.getProfile({}), (error) => refusalOf(error).code === Code.Unauthenticated);
  assert.equal(node.made, 1);
});

test("sign-out ends the session", async () => {
  const node = new Node();
  const { session, identity } = node.connect();
  await session.signIn("resident.01", "right");
  await session.signOut();
  await session.signOut();
  assert.equal(node.good.size, 0);
  await assert.rejects(identity.getProfile({}));
});

test("a refusal says its reason and the fields", async () => {
  const { session } = new Node().connect();
  await assert.rejects(session.signIn("resident.01", ""), (error) => {
    const refusal = refusalOf(error);
    assert.equal(refusal.code, Code.InvalidArgument);
    assert.equal(refusal.reason, "INVALID");
    assert.deepEqual(refusal.metadata, { field: "password" });
    assert.deepEqual(refusal.violations, [{ field: "password", rule: "required" }]);
    assert.equal(refusal.retryable, false);
    return true;
  });
});
