import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";

/** One field that breaks a rule: its path in the request, and the rule in words. */
export interface Violation {
  readonly field: string;
  readonly rule: string;
}

/** What a node says about a call that it refused or could not answer. */
export interface Refusal {
  readonly code: Code;
  readonly message: string;
  /** Stable and meant for programs ("EVENT_NOT_FOUND"); empty when the gateway answered in the service's stead. */
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** The fields that break a rule when the code is InvalidArgument. */
  readonly violations: readonly Violation[];
  /** Whether the same call, with the same requestId, may succeed a little later. */
  readonly retryable: boolean;
}

/** Reads what a node says in the error of a failed call; anything else becomes a refusal with code Unknown. */
export function refusalOf(error: unknown): Refusal {
  const failure = ConnectError.from(error);
  const info = failure.findDetails(ErrorInfoSchema)[0];
  const violations = failure
    .findDetails(BadRequestSchema)
    .flatMap((details) => details.fieldViolations)
    .map((found) => ({ field: found.field, rule: found.description }));
  return {
    code: failure.code,
    message: failure.rawMessage,
    reason: info?.reason ?? "",
    metadata: info?.metadata ?? {},
    violations,
    retryable: failure.code === Code.Unavailable || failure.code === Code.Aborted,
  };
}
