// The other side of peer_test.go: reads one JSON object per line,
// {"definition", "cdr": base64}, and answers each with one line,
// {"value", "little": base64, "big": base64, "left": bytes not read}: what
// @foxglove/rosmsg2-serialization reads, what it writes for that value, and the
// same value written big endian, field by field, with @foxglove/cdr.
//
// JSON cannot hold all numbers: bigint and non-finite numbers become strings.
"use strict";
const { parse } = require("@foxglove/rosmsg");
const { MessageReader, MessageWriter } = require("@foxglove/rosmsg2-serialization");
const { CdrWriter, EncapsulationKind } = require("@foxglove/cdr");

function writeFields(writer, definitions, fields, value) {
  const data = fields.filter((field) => field.isConstant !== true);
  if (data.length === 0) {
    writer.uint8(0);
  }
  for (const field of data) {
    const one = (v) => {
      if (field.isComplex === true) {
        writeFields(writer, definitions, definitions.get(field.type), v);
      } else if (field.type === "time" || field.type === "duration") {
        writer.int32(v.sec).uint32(v.nanosec);
      } else if (field.type === "bool") {
        writer.uint8(v ? 1 : 0);
      } else {
        writer[field.type](v);
      }
    };
    if (field.isArray !== true) {
      one(value[field.name]);
      continue;
    }
    if (field.arrayLength == undefined) {
      writer.sequenceLength(value[field.name].length);
    }
    for (const v of value[field.name]) {
      one(v);
    }
  }
}

function plain(_, v) {
  if (typeof v === "bigint") {
    return v.toString();
  }
  if (typeof v === "number" && !Number.isFinite(v)) {
    return String(v);
  }
  if (Object.is(v, -0)) {
    return "-0";
  }
  return ArrayBuffer.isView(v) ? Array.from(v) : v;
}

const base64 = (bytes) => Buffer.from(bytes).toString("base64");

const lines = require("fs").readFileSync(0, "utf8").split("\n").filter((line) => line !== "");
for (const line of lines) {
  const { definition, cdr } = JSON.parse(line);
  const parsed = parse(definition, { ros2: true });
  const data = new Uint8Array(Buffer.from(cdr, "base64"));
  const reader = new MessageReader(parsed);
  const value = reader.readMessage(data);
  const big = new CdrWriter({ kind: EncapsulationKind.CDR_BE });
  const definitions = new Map(parsed.map((d) => [d.name, d.definitions]));
  writeFields(big, definitions, parsed[0].definitions, value);
  const answer = {
    value,
    little: base64(new MessageWriter(parsed).writeMessage(value)),
    big: base64(big.data),
    left: data.length - reader.lastReadByteLength(),
  };
  process.stdout.write(JSON.stringify(answer, plain) + "\n");
}
