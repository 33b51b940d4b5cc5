/** Numbers of a tensor with its last two axes swapped. @param shape before, at least two axes */
export function transposeLast(values: Float32Array, shape: readonly number[]): Float32Array {
  const [rows, columns] = shape.slice(-2) as [number, number];
  const result = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += rows * columns) {
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) result[start + c * rows + r] = values[start + r * columns + c]!;
  }
  return result;
}
