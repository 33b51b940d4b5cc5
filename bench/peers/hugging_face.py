"""Opens folders as transformers, tokenizers and PEFT do, as bench/hugging-face.mjs asks for it: one JSON object a line on standard input,
one on standard output.

    {"folder": FOLDER, "task": "tokens" | "labels" | "spans", "ids": [...], "text": TEXT, "adapter"?: FOLDER, "labels"?: n}
        -> {"logits": [...], "ids": [...], "autoIds": [...], "versions": {...}}
           logits of all tokens one after the other, of labels, or [token][start, end]; ids of the text as Tokenizer.from_file has them,
           and as AutoTokenizer.from_pretrained has them, with the marks that it adds
    {"make": FOLDER, "config": {...}}
           writes a GPT-2 of random numbers
    {"adapt": FOLDER, "lora": {...}, "ids": [...], "out": FOLDER} -> {"logits": [...], "config": {...}, "versions": {...}}
           writes an adapter of random numbers as PEFT makes it from a LoraConfig; logits of the model with it
"""

import json
import sys
import warnings

import tokenizers
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForQuestionAnswering, AutoModelForSequenceClassification, AutoTokenizer

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
classes = {"tokens": AutoModelForCausalLM, "labels": AutoModelForSequenceClassification, "spans": AutoModelForQuestionAnswering}


def make(request):
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**request["config"])).save_pretrained(request["make"])
    return {}


def adapt(request):
    import peft

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(request["adapt"], dtype=torch.float32)
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **request["lora"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        logits = model.eval()(torch.tensor([request["ids"]])).logits[0]
    model.save_pretrained(request["out"])
    config = json.load(open(request["out"] + "/adapter_config.json"))
    versions = {"transformers": transformers.__version__, "peft": peft.__version__}
    return {"logits": logits.flatten().tolist(), "config": config, "versions": versions}


def answer(request):
    if "make" in request:
        return make(request)
    if "adapt" in request:
        return adapt(request)
    more = {"num_labels": request["labels"]} if "labels" in request else {}
    model, told = classes[request["task"]].from_pretrained(request["folder"], dtype=torch.float32, output_loading_info=True, **more)
    versions = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
    missing = sorted(told["missing_keys"])
    if "adapter" in request:
        import peft

        model = peft.PeftModel.from_pretrained(model, request["adapter"])
        versions["peft"] = peft.__version__
    with torch.no_grad():
        out = model.eval()(torch.tensor([request["ids"]]))
    logits = torch.stack([out.start_logits[0], out.end_logits[0]], -1) if request["task"] == "spans" else out.logits[0]
    tokenizer = tokenizers.Tokenizer.from_file(request["folder"] + "/tokenizer.json")
    ids = tokenizer.encode(request["text"], add_special_tokens=False).ids
    auto = AutoTokenizer.from_pretrained(request["folder"])(request["text"]).input_ids
    return {"logits": logits.flatten().tolist(), "ids": ids, "autoIds": auto, "missing": missing, "versions": versions}


for line in sys.stdin:
    try:
        result = answer(json.loads(line))
    except Exception as error:  # The other side tells of it.
        result = {"error": f"{type(error).__name__}: {error}"[:1000]}
    print(json.dumps(result), flush=True)
