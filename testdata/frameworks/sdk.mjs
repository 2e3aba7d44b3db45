// The AWS SDK for JavaScript against the emulated Lambda at ENDPOINT: it makes the calls of
// ../sdk-go/main.go, and prints the same lines.
import { InvokeCommand, InvokeWithResponseStreamCommand, LambdaClient } from "@aws-sdk/client-lambda";

const client = new LambdaClient({
  region: "us-east-1",
  endpoint: process.argv[2],
  credentials: { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "any" },
});
const print = (...fields) => console.log(fields.join("|")); // what is undefined is empty
const text = (bytes) => Buffer.from(bytes ?? "").toString();

// starts returns the word that a log begins with.
const starts = (log) => text(Buffer.from(log ?? "", "base64")).split(" ")[0];

async function call(command, tell) {
  try {
    await tell(await client.send(command));
  } catch (error) {
    print("refused", error.name, error.message);
  }
}

const invoke = (input) =>
  call(new InvokeCommand(input), (out) => {
    print("invoke", out.StatusCode, out.ExecutedVersion, out.FunctionError, text(out.Payload), starts(out.LogResult));
  });

const stream = (event) =>
  call(new InvokeWithResponseStreamCommand({ FunctionName: "orders", Payload: event, LogType: "Tail" }), async (out) => {
    const chunks = [];
    let end = {};
    for await (const { PayloadChunk, InvokeComplete } of out.EventStream) {
      if (PayloadChunk) chunks.push(PayloadChunk.Payload);
      if (InvokeComplete) end = InvokeComplete;
    }
    print("stream", out.StatusCode, out.ExecutedVersion, text(Buffer.concat(chunks)), end.ErrorCode, end.ErrorDetails,
      starts(end.LogResult));
  });

const context = Buffer.from('{"c":1}').toString("base64");
await invoke({ FunctionName: "orders:live", Payload: '{"a":1}', ClientContext: context, LogType: "Tail" });
for (const event of ['"fail"', '"break"', "{"]) await invoke({ FunctionName: "orders", Payload: event });
for (const kind of ["Event", "DryRun", "Later"]) await invoke({ FunctionName: "orders", InvocationType: kind });
await invoke({ FunctionName: "other" });
for (const event of ['"stream"', '"break"', '"fail"', "{"]) await stream(event);
