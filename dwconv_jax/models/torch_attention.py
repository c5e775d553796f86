"""Whether a layer is the attention that a PyTorch layout is of."""

from typing import Any

from dwconv_jax.errors import UserError
from dwconv_jax.layers import LocallyConnected
from dwconv_jax.layers.weights import AttentionWeights
from dwconv_jax.layers.weights.position_bias import POSITION_BIASES
from dwconv_jax.ops.connectivity import Connectivity

_DEFAULTS: dict[str, Any] = dict(
    position_bias="table", cosine=False, rotary=False, lepe=False, qkv_bias=True,
    output_projection=True, shared_keys=False, see_border=False, cyclic=False,
)  # fmt: skip


def check_attention(
    mixer: LocallyConnected, name: str, kind: type[Connectivity], **options: Any
) -> AttentionWeights:
    """The weight source of a layer that is attention as the original has it.

    Args:
      mixer: the layer.
      name: of the layer, for errors.
      kind: the original's connectivity.
      **options: in which the original's attention differs from the defaults of `AttentionWeights`.

    Raises:
      UserError: if it is another layer.
    """
    is_attention = isinstance(mixer.source, AttentionWeights)
    alike = is_attention and _options(mixer) == _DEFAULTS | options
    if alike and isinstance(mixer.connectivity, kind):
        return mixer.source
    raise UserError(
        f"{name}: the authors' code has no layer with dynamic={mixer.dynamic!r} weights over "
        f"{mixer.connectivity} and these options of attention, so there is no PyTorch layout for it"
    )


def _options(mixer: LocallyConnected) -> dict[str, Any]:
    """Those that decide which parameters there are, or what they mean."""
    source = mixer.source
    bias = source.position_bias
    return dict(
        position_bias=next(
            name
            for name, kind in POSITION_BIASES.items()
            if type(bias) is kind or bias is kind is None
        ),
        cosine=source.logit_scale is not None,
        rotary=source.rotary,
        lepe=mixer.lepe is not None,
        qkv_bias="qv" if source.q_bias is not None else source.qkv.bias is not None,
        output_projection=mixer.proj is not None,
        shared_keys=source.num_kv_heads != source.num_heads,
        see_border=source.see_border,
        cyclic=source.seams != mixer.connectivity,
    )
