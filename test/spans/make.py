# Makes the fixtures of this folder with Hugging Face's transformers: small random models with a head of spans, and the answers that
# they find in a text whose bytes are the tokens, by Hugging Face's rules (softmax over the context, at most 15 tokens).
#   python test/spans/make.py
import json
import pathlib

import torch
import transformers as t

here = pathlib.Path(__file__).parent
question = "What was the dog called?"
context = "Tom had a dog. The dog was naïve, called Rex — or so."
before, after = list(question.encode()), list(context.encode())
sizes = dict(vocab_size=256, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
ends = dict(bos_token_id=None, eos_token_id=None)
models = {
    "gpt2": (t.GPT2ForQuestionAnswering, t.GPT2Config(vocab_size=256, n_embd=12, n_layer=1, n_head=2, n_positions=128, **ends)),
    "gpt_neox": (t.GPTNeoXForQuestionAnswering, t.GPTNeoXConfig(**sizes, **ends)),
    "llama": (t.LlamaForQuestionAnswering, t.LlamaConfig(**sizes, **ends)),
    "qwen2": (t.Qwen2ForQuestionAnswering, t.Qwen2Config(**sizes, num_key_value_heads=1, **ends)),
}
torch.manual_seed(0)
for name, (kind, config) in models.items():
    model = kind(config).float().eval()
    for key, p in model.named_parameters():
        torch.nn.init.normal_(p, std=4.0 if "qa_outputs" in key else 0.3 if p.dim() > 1 else 0.1)
        if p.dim() == 1 and ("norm" in key or "ln_" in key) and key.endswith("weight"):
            p.data += 1
    model.save_pretrained(here / name)
    with torch.no_grad():
        out = model(torch.tensor([before + after]))
    first, last = (torch.log_softmax(x[0, len(before):].double(), 0) for x in (out.start_logits, out.end_logits))
    spans = [
        (float(first[i] + last[j]), i, j)
        for i in range(len(after))
        for j in range(i, min(i + 15, len(after)))
        if bytes(after[i : j + 1]).strip()
    ]
    best = [dict(logProbability=p, first=i, last=j) for p, i, j in sorted(spans, reverse=True)[:8]]
    expected = dict(question=question, context=context, first=first.tolist(), last=last.tolist(), best=best)
    (here / name / "expected.json").write_text(json.dumps(expected) + "\n")
