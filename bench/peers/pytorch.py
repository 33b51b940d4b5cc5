"""Times transformers' models on the CPU, with random weights of a shape's configuration: a question a line, an answer a line.

    python pytorch.py FOLDER f32|bf16 THREADS

Question: {"tokens": [...], "steps": n}: reads the tokens, then generates n times the likeliest. Answer: tokens a second of reading
when n is 0, else of generating.
"""

import json
import sys
import time

import torch
import transformers

transformers.logging.set_verbosity_error()
folder, bits, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
torch.manual_seed(1)
config = transformers.AutoConfig.from_pretrained(folder)
model = transformers.AutoModelForCausalLM.from_config(config)
model = model.to(torch.bfloat16 if bits == "bf16" else torch.float32).eval()
# Mamba's models call what they carry otherwise than transformers do.
cache = "cache_params" if config.model_type.startswith("mamba") else "past_key_values"
print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__}), flush=True)
with torch.inference_mode():
    for line in sys.stdin:
        question = json.loads(line)
        tokens = torch.tensor([question["tokens"]])
        steps = question["steps"]
        start = time.perf_counter()
        out = model(tokens, use_cache=True, logits_to_keep=1)
        if steps == 0:
            print(len(question["tokens"]) / (time.perf_counter() - start), flush=True)
            continue
        start = None
        for n in range(steps + 1):
            if n == 1:
                start = time.perf_counter()
            position = torch.tensor([len(question["tokens"]) + n])
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            # Mamba's take the place in the text as an argument, the others find it in what they carry.
            more = {"cache_position": position} if cache == "cache_params" else {}
            out = model(token, use_cache=True, **{cache: out[cache]}, **more)
        print(steps / (time.perf_counter() - start), flush=True)
