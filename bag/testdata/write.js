// The other side of foreign_test.go: writes .mcap files with @mcap/core, a writer
// that shares no code with ours, into the directory in its argument, and prints
// what is in each, [{"File", "Messages": [{"Topic", "Type", "Time", "Data"}]}], in
// the order of writing. Data are hexadecimal.
"use strict";
const fs = require("fs");
const path = require("path");
const { McapWriter, TempBuffer } = require("@mcap/core");
const zstd = require("@foxglove/wasm-zstd");

const compressChunk = (data) => ({ compression: "zstd", compressedData: zstd.compress(data, 3) });

const kinds = {
  "plain.mcap": {},
  "zstd.mcap": { compressChunk },
  "no_chunks.mcap": { useChunks: false },
  "no_index.mcap": { useMessageIndex: false, useChunkIndex: false },
  "no_statistics.mcap": { useStatistics: false },
  "no_repeated.mcap": { repeatSchemas: false, repeatChannels: false },
  "no_summary.mcap": { useStatistics: false, useSummaryOffsets: false, repeatSchemas: false, repeatChannels: false, useChunkIndex: false },
};

async function write(options) {
  const buffer = new TempBuffer();
  const writer = new McapWriter({ writable: buffer, chunkSize: 400, ...options });
  await writer.start({ profile: "ros2", library: "peer" });
  const messages = [];
  const topics = [];
  for (let t = 0; t < 3; t++) {
    const type = `std_msgs/msg/T${t}`;
    const schemaId = await writer.registerSchema({ name: type, encoding: "ros2msg", data: Buffer.from("bool data\n") });
    const metadata = new Map([["offered_qos_profiles", `- depth: ${t}\n`]]);
    topics.push({ name: `/t${t}`, type, id: await writer.registerChannel({ topic: `/t${t}`, schemaId, messageEncoding: "cdr", metadata }) });
  }
  for (let i = 0; i < 200; i++) {
    const topic = topics[(i * 7) % 3];
    // Out of order within chunks and across them, some equal.
    const time = BigInt(1700000000) * 1000000000n + BigInt((i * 37) % 150) * 1000000n;
    const data = Buffer.alloc(8 + (i % 50), i);
    data.writeUInt32BE(0x00010000);
    await writer.addMessage({ channelId: topic.id, sequence: i, logTime: time, publishTime: time, data });
    messages.push({ Topic: topic.name, Type: topic.type, Time: time.toString(), Data: data.toString("hex") });
  }
  await writer.end();
  return { bytes: buffer.get(), messages };
}

async function main(dir) {
  await zstd.isLoaded;
  const out = [];
  for (const [name, options] of Object.entries(kinds)) {
    const { bytes, messages } = await write(options);
    fs.writeFileSync(path.join(dir, name), bytes);
    out.push({ File: name, Messages: messages });
  }
  process.stdout.write(JSON.stringify(out));
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
