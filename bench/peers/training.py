"""PyTorch's training on the CPU, as bench/training.mjs asks for it: one JSON object a line on standard input, one on standard output.

    {"config": FOLDER, "form": "eager" | "compiled", "threads": 2, "tokens": [[...], ...], "rate": 0.001}
                        loads a folder's weights in f32             -> {"parameters": N}
    {"steps": n}        n steps on those tokens, AdamW included     -> {"seconds": [...], "losses": [...]}
    {"close": true}     frees the model                             -> {}

Models are transformers' own; RWKV-7, which it does not have, is written below from the equations (Peng et al. 2025, section 4).
"""

import json
import sys
import time
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

warnings.filterwarnings("ignore")


class Rwkv7(nn.Module):
    """RWKV-7 from a folder with fla's names. Time is a loop, all else is over whole windows."""

    def __init__(self, folder):
        super().__init__()
        self.config = json.loads((Path(folder) / "config.json").read_text())
        tensors = load_file(Path(folder) / "model.safetensors")
        self.names = {name: name.replace(".", "_") for name in tensors}
        for name, value in tensors.items():
            self.register_parameter(self.names[name], nn.Parameter(value.float()))

    def forward(self, tokens):
        c = self.config
        H, N, eps = c["num_heads"], c["head_dim"], c["norm_eps"]
        p = lambda name: getattr(self, self.names[name])
        B, T = tokens.shape

        def norm(name, x):
            return F.layer_norm(x, x.shape[-1:], p(f"{name}.weight"), p(f"{name}.bias"), eps)

        def before(x):
            return F.pad(x, (0, 0, 1, -1))

        x = p("model.embeddings.weight")[tokens]
        first = None
        for i in range(c["num_hidden_layers"]):
            at = f"model.layers.{i}"
            if i == 0:
                x = norm(f"{at}.pre_norm", x)
            y = norm(f"{at}.attn_norm", x)
            delta = before(y) - y
            mix = {one: torch.addcmul(y, delta, p(f"{at}.attn.x_{one}").view(-1)) for one in "rwkvag"}

            def low_rank(one, x, f):
                lora = f"{at}.attn.{one}_lora.lora"
                bias = f"{lora}.2.bias"
                return F.linear(f(F.linear(x, p(f"{lora}.0.weight"))), p(f"{lora}.2.weight"), p(bias) if bias in self.names else None)

            same = lambda x: x
            r = F.linear(mix["r"], p(f"{at}.attn.r_proj.weight"))
            k = F.linear(mix["k"], p(f"{at}.attn.k_proj.weight"))
            v = F.linear(mix["v"], p(f"{at}.attn.v_proj.weight"))
            w = torch.exp(-0.6065306597126334 * torch.sigmoid(low_rank("w", mix["w"], torch.tanh)))
            a = torch.sigmoid(low_rank("a", mix["a"], same))
            g = low_rank("g", mix["g"], torch.sigmoid)
            if first is None:
                first = v
            else:
                v = torch.lerp(v, first, torch.sigmoid(low_rank("v", mix["v"], same)))
            heads = lambda x: x.view(B, T, H, N)
            kk = F.normalize(heads(k * p(f"{at}.attn.k_k").view(-1)), dim=-1, eps=1e-12)
            k = heads(torch.addcmul(k, k * p(f"{at}.attn.k_a").view(-1), a - 1))
            r, w, v, a = heads(r), heads(w), heads(v), heads(a)
            S = x.new_zeros(B, H, N, N)
            reads = []
            for t in range(T):
                erased = S @ kk[:, t, :, :, None]
                S = S * w[:, t, :, None] - erased * (kk[:, t] * a[:, t])[:, :, None] + v[:, t, :, :, None] * k[:, t, :, None]
                reads.append(S @ r[:, t, :, :, None])
            read = torch.stack(reads, 1)
            read = F.group_norm(read.reshape(B * T, H * N), H, p(f"{at}.attn.g_norm.weight"), p(f"{at}.attn.g_norm.bias"), N * eps)
            bonus = (r * k * p(f"{at}.attn.r_k")).sum(-1, keepdim=True) * v
            read = read.view(B, T, H * N) + bonus.reshape(B, T, H * N)
            x = x + F.linear(read * g, p(f"{at}.attn.o_proj.weight"))
            y = norm(f"{at}.ffn_norm", x)
            y = torch.addcmul(y, before(y) - y, p(f"{at}.ffn.x_k").view(-1))
            x = x + F.linear(F.relu(F.linear(y, p(f"{at}.ffn.key.weight"))).square(), p(f"{at}.ffn.value.weight"))
        return F.linear(norm("model.norm", x), p("lm_head.weight"))


def model_of(folder):
    if json.loads((Path(folder) / "config.json").read_text())["model_type"] == "rwkv7":
        return Rwkv7(folder)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.config.use_cache = False
    return model


class Training:
    def __init__(self, config, form, threads, tokens, rate):
        torch.set_num_threads(threads)
        self.model = model_of(config).train()
        self.tokens = torch.tensor(tokens)
        self.run = torch.compile(self.model) if form == "compiled" else self.model
        # Matrices decay, all else does not; the fused form is PyTorch's fastest on the CPU.
        groups = [[p for p in self.model.parameters() if (p.dim() >= 2) == matrices] for matrices in (True, False)]
        options = [{"params": group, "weight_decay": decay} for group, decay in zip(groups, (0.1, 0.0))]
        self.optimizer = torch.optim.AdamW(options, lr=rate, betas=(0.9, 0.95), fused=True)

    def step(self):
        given, wanted = self.tokens[:, :-1], self.tokens[:, 1:]
        out = self.run(given) if isinstance(self.model, Rwkv7) else self.run(given, use_cache=False).logits
        loss = F.cross_entropy(out.reshape(-1, out.shape[-1]), wanted.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def steps(self, count):
        seconds, losses = [], []
        for _ in range(count):
            start = time.perf_counter()
            losses.append(self.step())
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds, "losses": losses}


def main():
    training = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "config" in request:
                training = Training(**request)
                answer = {"parameters": sum(p.numel() for p in training.model.parameters()), "torch": torch.__version__}
            elif "steps" in request:
                answer = training.steps(request["steps"])
            else:
                training = None
                answer = {}
        except Exception as error:  # The other side decides what a form that does not run means.
            answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
        print(json.dumps(answer), flush=True)


main()
