// Files a request as a resident and follows it until a department has it.
//
//   QUINTET_URL=http://127.0.0.1:8080 QUINTET_LOGIN=resident.01 QUINTET_PASSWORD=... npm run --silent example
import { connect, newRequestId } from "@quintet/sdk";
import { RequestStatus } from "@quintet/sdk/gen/quintet/delivery/v1/delivery_pb.js";

const { QUINTET_URL = "http://127.0.0.1:8080", QUINTET_LOGIN = "", QUINTET_PASSWORD = "" } = process.env;
const FOLLOW_S = 60;

const quintet = connect({ baseUrl: QUINTET_URL });
const who = await quintet.signIn(QUINTET_LOGIN, QUINTET_PASSWORD);

const { eventTypes } = await quintet.management.listEventTypes({ pageSize: 1 });
const { request: filed } = await quintet.requests.fileRequest({
  type: eventTypes[0]?.name ?? "",
  description: "Broken glass on the pavement",
  place: { address: "1200 18th Street", neighbourhood: "Potrero Hill", zoneHint: "10" },
  requestId: newRequestId(),
});
if (filed === undefined) throw new Error("the node answered without a request");
console.log(`${who} filed ${filed.number} (${filed.name})`);

for (let second = 0; ; second++) {
  const { request } = await quintet.requests.getRequest({ name: filed.name });
  const status = request?.status ?? RequestStatus.UNSPECIFIED;
  console.log(`${RequestStatus[status]} ${request?.event}`);
  if (status > RequestStatus.RECEIVED) break;
  if (second >= FOLLOW_S) throw new Error(`no department has ${filed.number} after ${FOLLOW_S} seconds`);
  await new Promise((resolve) => setTimeout(resolve, 1000));
}
await quintet.signOut();
