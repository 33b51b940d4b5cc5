// Writes ONNX files: the fields of its protocol buffers (onnx.proto) that a graph of operators with stored weights needs.

const types = { f32: 1, u8: 2, i8: 3, i32: 6, i64: 7 };
const elementBytes = { f32: 4, u8: 1, i8: 1, i32: 4, i64: 8 };
/** The release of ONNX whose files these are: of the first with operators of version 21. */
const IR_VERSION = 10;

function varint(value) {
  const bytes = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Buffer.from([...bytes, Number(rest)]);
}
const integer = (field, value) => Buffer.concat([varint(field << 3), varint(value)]);
/** The head of a field of that many bytes. */
const head = (field, length) => Buffer.concat([varint((field << 3) | 2), varint(length)]);
const nested = (field, ...parts) => {
  const body = Buffer.concat(parts);
  return Buffer.concat([head(field, body.length), body]);
};
const text = (field, value) => nested(field, Buffer.from(value));
function float(field, value) {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([varint((field << 3) | 5), bytes]);
}

/** An attribute of a node: a list of one number is a float, a plain one an integer. */
const attribute = ([name, value]) =>
  Array.isArray(value)
    ? nested(5, text(1, name), float(2, value[0]), integer(20, 1))
    : nested(5, text(1, name), integer(3, value), integer(20, 2));

const node = ({ op, domain = '', inputs, outputs, attributes = {} }) =>
  nested(
    1,
    ...inputs.map((name) => text(1, name)),
    ...outputs.map((name) => text(2, name)),
    text(3, outputs[0]),
    text(4, op),
    ...Object.entries(attributes).map(attribute),
    text(7, domain),
  );

/** An input or output of the graph; an axis is a length or the name of one. */
const port = (field, { name, type, shape }) => {
  const axes = shape.map((axis) => nested(1, typeof axis === 'string' ? text(2, axis) : integer(1, axis)));
  return nested(field, text(1, name), nested(2, nested(1, integer(1, types[type]), nested(2, ...axes))));
};

/**
 * The bytes of an ONNX file, in pieces.
 * @param graph nodes `{ op, domain, inputs, outputs, attributes }` in an order in which they can be computed; inputs and outputs
 *   `{ name, type, shape }`; weights `{ name, type, shape, data }`, of which `data()` gives the numbers as an array of their type
 * @param versions of the sets of operators, by domain
 */
export async function* encodeOnnx({ nodes, inputs, outputs, weights }, versions) {
  const heads = weights.map(({ name, type, shape }) => {
    const length = shape.reduce((a, b) => a * b, elementBytes[type]);
    const dims = shape.map((axis) => integer(1, axis));
    const start = Buffer.concat([...dims, integer(2, types[type]), text(8, name), head(9, length)]);
    return { length, bytes: Buffer.concat([head(5, start.length + length), start]) };
  });
  const graph = Buffer.concat([
    ...nodes.map(node),
    text(2, 'graph'),
    ...inputs.map((one) => port(11, one)),
    ...outputs.map((one) => port(12, one)),
  ]);
  const length = heads.reduce((sum, one) => sum + one.bytes.length + one.length, graph.length);
  const sets = Object.entries(versions).map(([domain, version]) => nested(8, text(1, domain), integer(2, version)));
  yield Buffer.concat([integer(1, IR_VERSION), text(2, 'riverrun'), ...sets, head(7, length)]);
  yield graph;
  for (const [n, { name, data }] of weights.entries()) {
    yield heads[n].bytes;
    const { buffer, byteOffset, byteLength } = await data();
    if (byteLength !== heads[n].length)
      throw new Error(`${name} is ${byteLength} bytes, and its shape says ${heads[n].length}`);
    yield new Uint8Array(buffer, byteOffset, byteLength);
  }
}
