"""Photo to `Patches`: the keys of the last self-attention layer of a self-supervised ViT (section 4.2).

In: upright RGB photos of any size. Out: one L2-normalised key a patch, heads concatenated, class and register tokens
dropped. The ViT is the starter encoder that ships here, one trained by the step `encoder`, or any self-supervised ViT
of timm; all three are one class, `Encoder`, and one folder on disk (`model.safetensors`, `config.json`).
"""
