export { connect, newRequestId, type Options, type Quintet } from "./client.js";
export { refusalOf, type Refusal, type Violation } from "./errors.js";
