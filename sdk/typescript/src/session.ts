import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Client, type Interceptor, type Transport } from "@connectrpc/connect";
import { IdentityService, type Tokens } from "./gen/quintet/identity/v1/identity_pb.js";

// Renewed this long before the end, so that a call does not arrive with a token that has just ended.
const RENEW_BEFORE_MS = 60_000;

/** The tokens of one caller; `transport` carries sign-in and renewal and must not use the session itself. */
export class Session {
  private readonly identity: Client<typeof IdentityService>;
  private tokens: Tokens | undefined;
  private renewing: Promise<boolean> | undefined;

  /** A fixed `token` stands in for signing in; it is not renewed. */
  constructor(
    transport: Transport,
    private readonly fixedToken: string,
  ) {
    this.identity = createClient(IdentityService, transport);
  }

  async signIn(login: string, password: string): Promise<string> {
    const answer = await this.identity.signIn({ login, password });
    this.tokens = answer.tokens;
    return answer.subject;
  }

  async signOut(): Promise<void> {
    if (this.tokens === undefined) return;
    const headers = { authorization: `Bearer ${await this.token()}` };
    await this.identity.signOut({}, { headers });
    this.tokens = undefined;
  }

  /** Puts the token on every call, and sends a call once more when its token was refused and could be renewed. */
  readonly interceptor: Interceptor = (next) => async (request) => {
    const token = await this.token();
    if (token !== "") request.header.set("authorization", `Bearer ${token}`);
    try {
      return await next(request);
    } catch (error) {
      const refused = token !== "" && ConnectError.from(error).code === Code.Unauthenticated;
      // A stream has been read from already, so only a single request can be sent again.
      if (!refused || request.stream || !(await this.renew(token))) throw error;
      request.header.set("authorization", `Bearer ${await this.token()}`);
      return await next(request);
    }
  };

  private async token(): Promise<string> {
    const tokens = this.tokens;
    if (tokens === undefined) return this.fixedToken;
    const endsMs = tokens.expiresAt === undefined ? 0 : timestampMs(tokens.expiresAt);
    if (endsMs - Date.now() < RENEW_BEFORE_MS) await this.renew(tokens.accessToken);
    return this.tokens?.accessToken ?? "";
  }

  /** A refresh token works once, so calls at the same time share one renewal. */
  private renew(refused: string): Promise<boolean> {
    if (this.tokens === undefined) return Promise.resolve(false);
    if (this.tokens.accessToken !== refused) return Promise.resolve(true);
    this.renewing ??= this.exchange(this.tokens.refreshToken).finally(() => {
      this.renewing = undefined;
    });
    return this.renewing;
  }

  private async exchange(refreshToken: string): Promise<boolean> {
    try {
      const answer = await this.identity.refreshSession({ refreshToken });
      this.tokens = answer.tokens;
      return true;
    } catch (error) {
      if (ConnectError.from(error).code !== Code.Unauthenticated) throw error;
      this.tokens = undefined;
      return false;
    }
  }
}
