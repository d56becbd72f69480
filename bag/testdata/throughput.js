// The other side of throughput_test.go: reads all messages of the .mcap file in
// its argument with @mcap/core, in the order of time, and prints how many there
// were, their bytes, and the seconds that it took without loading this script.
"use strict";
const fs = require("fs/promises");
const { McapIndexedReader } = require("@mcap/core");
const { loadDecompressHandlers } = require("@mcap/support");

async function main(path) {
  const decompressHandlers = await loadDecompressHandlers();
  const start = process.hrtime.bigint();
  const file = await fs.open(path);
  const { size } = await file.stat();
  const readable = {
    size: async () => BigInt(size),
    read: async (offset, length) => {
      const buffer = new Uint8Array(Number(length));
      await file.read(buffer, 0, buffer.length, Number(offset));
      return buffer;
    },
  };
  const reader = await McapIndexedReader.Initialize({ readable, decompressHandlers });
  let count = 0;
  let bytes = 0;
  for await (const message of reader.readMessages({ validateCrcs: true })) {
    count++;
    bytes += message.data.length;
  }
  await file.close();
  process.stdout.write(JSON.stringify({ Count: count, Bytes: bytes, Seconds: Number(process.hrtime.bigint() - start) / 1e9 }));
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
