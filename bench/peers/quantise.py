"""Quantises the matrices of an f32 GGUF file with ggml's own rounding (of the `gguf` package).

    python quantise.py in.gguf out.gguf Q4_0
"""

import sys

import gguf
import numpy as np

source, target, name = sys.argv[1:]
kind = gguf.GGMLQuantizationType[name]
reader = gguf.GGUFReader(source)
architecture = reader.get_field("general.architecture").contents()
writer = gguf.GGUFWriter(target, architecture)
for field in reader.fields.values():
    if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
        continue
    value_type = field.types[0]
    writer.add_key_value(field.name, field.contents(), value_type, field.types[-1] if value_type == gguf.GGUFValueType.ARRAY else None)
quantised = 0
for tensor in reader.tensors:
    data = np.array(tensor.data)
    # What is read element by element stays as it is: see docs/quantisation.md.
    shape = data.shape
    small = tensor.tensor_type != gguf.GGMLQuantizationType.F32 or len(shape) != 2 or min(shape) < 64 or shape[1] % 32
    if small or not tensor.name.endswith(".weight") or "conv" in tensor.name:
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
        continue
    writer.add_tensor(tensor.name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    quantised += 1
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
print(f"{quantised} of {len(reader.tensors)} tensors as {name}")
